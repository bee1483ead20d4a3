/**
 * Starts a keeper for a mount and waits until it serves, or says why it can't. Called by `siteswap mount`.
 *
 * The keeper is a process of its own (detached, unless in the foreground): the mount must outlive the command. It is
 * started with the loader options of this process, so that it works from the sources too.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import * as v from 'valibot';
import { SiteswapError } from '../util/errors.js';
import { MAX_MESSAGE_BYTES } from '../util/limits.js';
import { packageRoot, scriptAt } from '../util/package-root.js';
import { outliveStderr } from '../util/stderr.js';
import { startMessageSchema, type MountOptions, type StartMessage } from './keeper-protocol.js';
import { LineReader } from './line-reader.js';

export interface StartEvents {
  onProgress?: (text: string) => void;
  onNotice?: (text: string) => void;
  /** In the foreground only: it serves now. */
  onReady?: () => void;
}

/** Resolves when it serves; in the foreground, when it has been unmounted. Rejects with a SiteswapError. */
export async function startKeeper(options: MountOptions, events: StartEvents = {}): Promise<void> {
  // It stays as long as the mount, and passes on the signal that ends it.
  if (options.foreground) outliveStderr();
  const keeper = spawnNode('daemon/keeper-main', [JSON.stringify(options)], {
    detached: !options.foreground,
    stdio: ['ignore', options.foreground ? 'inherit' : 'ignore', options.foreground ? 'inherit' : 'ignore', 'pipe'],
  });
  const status = keeper.stdio[3] as Socket;
  const exited = new Promise<number | null>((resolve) => keeper.once('exit', resolve));
  const forward = (signal: NodeJS.Signals): void => void keeper.kill(signal);
  if (options.foreground) for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, forward);
  try {
    await readiness(keeper, status, events);
    if (options.foreground) {
      events.onReady?.();
      const code = await exited;
      if (code !== 0) throw new SiteswapError('INTERNAL', 'the server stopped', 'See the messages above.');
    }
  } finally {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.off(signal, forward);
    status.destroy();
    keeper.unref();
  }
}

function readiness(keeper: ChildProcess, status: Socket, events: StartEvents): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    const onMessage = (message: StartMessage): void => {
      if (message.type === 'progress') events.onProgress?.(message.text);
      else if (message.type === 'notice') events.onNotice?.(message.text);
      else if (message.type === 'ready') resolve();
      else reject(SiteswapError.fromData(message.error));
    };
    const reader = new LineReader(MAX_MESSAGE_BYTES, (line) =>
      onMessage(v.parse(startMessageSchema, JSON.parse(line))),
    );
    status.on('data', (chunk) => reader.push(chunk));
    status.on('error', reject);
    status.on('close', () => reject(new SiteswapError('INTERNAL', 'the keeper ended before it served', HINT)));
    keeper.on('error', reject);
  });
}

const HINT = 'Try again with --foreground and DEBUG=siteswap:* to see why.';

/**
 * Runs one of our entry points in a new process. It starts in the package's directory, where the loader options of the
 * sources are understood, and goes to / by itself.
 */
export function spawnNode(
  entry: 'daemon/keeper-main' | 'daemon/server-main' | 'verifier/main',
  words: readonly string[],
  how: {
    detached: boolean;
    stdio: (number | 'ignore' | 'inherit' | 'pipe')[];
    /** A program, with its arguments, that becomes it. */
    by?: readonly string[];
  },
): ChildProcess {
  const script = scriptAt(`../${entry}`, import.meta.url);
  const [program, ...line] = [...(how.by ?? []), process.execPath, ...loaderArguments(), script, ...words];
  return spawn(program!, line, {
    cwd: packageRoot(),
    detached: how.detached,
    stdio: how.stdio,
  });
}

/** What a test runner or a debugger added for this process is not for its children. */
function loaderArguments(): string[] {
  return process.execArgv.filter((word) => !/^--(test|inspect)/.test(word));
}
