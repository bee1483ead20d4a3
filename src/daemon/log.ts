/**
 * The log of keeper and server: lines appended to a descriptor that they and the verifiers share, `server.log` in the store
 * or, in the foreground, standard error.
 *
 * Invariant: a line that can't be written ends nothing. The disk may be full, the reader of the pipe gone or asleep: it is
 * dropped, and the next one that can be written says how many were.
 */
import { writeSync } from 'node:fs';
import { printable } from './terminal.js';

export type Log = (text: string) => void;

export function createLog(fd: number, who: string): Log {
  let lost = 0;
  let isCut = false;
  // Commands and file names are somebody else's words: a log that is shown on a terminal must not obey them.
  const line = (text: string): string => `${new Date().toISOString()} ${who}: ${printable(text)}\n`;
  return (text) => {
    const missing = lost === 0 ? '' : line(`${lost} ${lost === 1 ? 'line was' : 'lines were'} lost here`);
    const bytes = Buffer.from(`${isCut ? '\n' : ''}${missing}${line(text)}`);
    let done = 0;
    try {
      while (done < bytes.length) done += writeSync(fd, bytes, done);
      lost = 0;
      isCut = false;
    } catch {
      lost++;
      // A disk that has room for a part of it takes that part.
      isCut ||= done > 0;
    }
  };
}
