/**
 * Tells the user of an installer, on the terminal it was started from, what became of it after it had ended.
 *
 * Only a terminal is ever written to, never a file or a pipe that the installer's stderr may be, and never with bytes
 * that a terminal would obey: commands and file names in the text are somebody else's.
 */
import { closeSync, constants, openSync, readlinkSync, writeSync } from 'node:fs';
import { debugFor } from '../util/debug.js';
import { describe } from '../util/errors.js';

const debug = debugFor('terminal');

/** Null when its stderr is no terminal, or can't be seen. */
export function terminalOf(pid: number): string | null {
  try {
    return terminalPath(readlinkSync(`/proc/${pid}/fd/2`));
  } catch {
    return null;
  }
}

export function terminalPath(link: string): string | null {
  return /^\/dev\/(pts\/[0-9]+|tty[A-Za-z]*[0-9]+)$/.test(link) ? link : null;
}

/** Control characters become '?': C0, DEL and C1. */
export function printable(text: string): string {
  // oxlint-disable-next-line no-control-regex -- control characters are what this is about
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');
}

export function tellTerminal(path: string, lines: readonly string[]): void {
  try {
    const fd = openSync(path, constants.O_WRONLY | constants.O_NOCTTY | constants.O_NONBLOCK);
    try {
      writeSync(fd, `\r\n${lines.map((line) => `siteswap: ${printable(line)}\r\n`).join('')}`);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    debug('%s: %s', path, describe(error));
  }
}
