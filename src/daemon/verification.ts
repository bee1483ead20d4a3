/**
 * Verification as the server sees it: one process for each (src/verifier), which looks at the transaction's tree through the
 * mount, as an observer. Here: starting it, answering what it asks, and what it costs when it fails: an error, and so a
 * refusal, never a commit that nobody looked at.
 */
import { closeSync, openSync } from 'node:fs';
import type { Socket } from 'node:net';
import type { Engine } from '../fuse/backend.js';
import type { Verdict, Verify } from '../txn/commit.js';
import type { TreeView } from '../txn/engine-port.js';
import type { Transaction } from '../txn/transaction.js';
import { changedPaths, readerOf, verifyNothing } from '../txn/verification.js';
import { describe, SiteswapError } from '../util/errors.js';
import { encodeFrame, FrameReader } from '../util/frames.js';
import type { Answer, FromVerifier, Job, Question, Report } from '../verifier/protocol.js';
import { sandboxProgram } from '../verifier/sandbox.js';
import type { MountOptions } from './keeper-protocol.js';
import { spawnNode } from './start.js';

export interface VerifierOptions {
  engine: Engine;
  mount: Pick<MountOptions, 'directory' | 'verify'>;
  /** Its standard error: the server's log. */
  logFd: number;
}

/** A verification as a whole may take so much longer than all that is limited in it. */
const MARGIN_MS = 120_000;

export function createVerify({ engine, mount, logFd }: VerifierOptions): Verify {
  const { level, commands, skip, limits } = mount.verify;
  return async (transaction, changes, options) => {
    const tests = [...commands, ...options.commands];
    if (options.force || (level === 'none' && tests.length === 0)) {
      return verifyNothing(engine)(transaction, changes, options);
    }
    const job: Job = {
      mountpoint: mount.directory,
      level,
      skip,
      commands: tests,
      limits,
      owner: { uid: transaction.uid, gid: transaction.gid },
      changes: changedPaths(changes),
    };
    const modules = level === 'record' ? 1 : 1 + changes.length;
    const timeMs = MARGIN_MS + tests.length * limits.commandMs + Math.min(modules, 200) * limits.importMs;
    const { onCheck, signal } = options;
    return runVerifier({ engine, transaction, job, onCheck, signal, logFd, timeMs });
  };
}

/** The descriptor of the FUSE device in the program that mounts it. */
const VIEW_FD = 4;
const DEVICE = '/dev/fuse';

interface Run {
  engine: Engine;
  transaction: Transaction;
  job: Job;
  onCheck: (name: string) => void;
  signal: AbortSignal;
  logFd: number;
  timeMs: number;
}

async function runVerifier(run: Run): Promise<Verdict> {
  const { engine, transaction, job, logFd } = run;
  const view = OwnView.open(job.mountpoint);
  const stdio = ['pipe', logFd, logFd, 'pipe', ...view.stdio] as const;
  // Its standard input tells it, by its end, that this process is gone.
  const child = spawnNode('verifier/main', [], { detached: false, stdio: [...stdio], by: view.command });
  const channel = child.stdio[3] as Socket;
  const exited = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const timer = setTimeout(() => child.kill('SIGKILL'), run.timeMs);
  const over = new AbortController();
  try {
    return await new Promise<Report>((resolve, reject) => {
      const fail = (why: string): void =>
        reject(new SiteswapError('INTERNAL', `verification failed: ${why}`, 'See server.log in the store.'));
      const end = (): void =>
        reject(
          new SiteswapError(
            'COMMIT_REFUSED',
            'its verification was ended, because the mount is to end',
            'It is kept: mount again and see `siteswap status`.',
          ),
        );
      if (run.signal.aborted) end();
      run.signal.addEventListener('abort', end, { once: true, signal: over.signal });
      child.once('error', (error) => fail(error.message));
      // Not 'exit': what it said last may still be on its way.
      child.once('close', (code, signal) => fail(`the verifier ended with ${signal ?? code}`));
      channel.on('error', (error) => fail(error.message));
      const start = (): void => {
        view.serve(engine);
        // Before it gets to know what to look at.
        engine.observe({ view: { transaction: transaction.id }, pid: child.pid! });
        channel.write(encodeFrame(job));
      };
      const reader = new FrameReader((value) => {
        const message = value as FromVerifier;
        if ('ask' in message) void answer(run, message).then((reply) => channel.write(encodeFrame(reply)));
        else if (message.tell === 'ready') start();
        else if (message.tell === 'check') run.onCheck(message.name);
        else if (message.tell === 'done') resolve(message.report);
        else fail(message.reason);
      });
      channel.on('data', (chunk: Buffer) => {
        try {
          reader.push(chunk);
        } catch (error) {
          fail(describe(error));
        }
      });
    });
  } finally {
    over.abort();
    clearTimeout(timer);
    child.kill('SIGKILL');
    // It has nothing of the mount open any more when the commit goes on.
    await exited;
    view.close();
  }
}

/**
 * A mount of the verifier's own, in a mount namespace of its own. On the mount that everybody uses, requests that wait for
 * the decision may hold locks of the kernel (a directory that something is being created in), and the decision waits for the
 * verifier. Only root may do this; without it the verifier looks at the mount that everybody uses.
 */
class OwnView {
  #isServed = false;

  private constructor(
    private readonly device: number | null,
    readonly command: readonly string[],
  ) {}

  static open(directory: string): OwnView {
    if (process.geteuid?.() !== 0) return new OwnView(null, []);
    const program = sandboxProgram();
    return new OwnView(openSync(DEVICE, 'r+'), [program, '--own-view', directory, String(VIEW_FD), '--']);
  }

  get stdio(): number[] {
    return this.device === null ? [] : [this.device];
  }

  /** It is mounted by now. */
  serve(engine: Engine): void {
    const { device } = this;
    if (device === null) return;
    this.#isServed = true;
    void engine.serveViewer(device).then(() => closeSync(device));
  }

  /** What is being served is closed when its mount is gone. */
  close(): void {
    if (this.device !== null && !this.#isServed) closeSync(this.device);
  }
}

async function answer({ engine, transaction }: Run, question: Question): Promise<Answer> {
  const before: TreeView = { generation: transaction.base };
  const tree = readerOf(engine, before);
  try {
    switch (question.ask) {
      case 'list':
        return { list: tree.list(question.path) };
      case 'read':
        return { read: await tree.read(question.path) };
      case 'observe': {
        const view = question.view === 'before' ? before : { transaction: transaction.id };
        engine.observe({ view, pid: question.pid });
        return { observed: true };
      }
    }
  } catch (error) {
    return { failed: describe(error) };
  }
}
