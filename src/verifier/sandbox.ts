/**
 * Runs a command contained, by way of the program `siteswap-sandbox` (native/sandbox): as its owner at most, with nothing
 * writable but a directory that is gone afterwards, limited in time, memory and processes, and with nothing left running.
 *
 * When this process ends, however it ends, so does the command with all it started: the program watches the pipe.
 * Called by the verifier for each import test and each command of the user's; never in the daemon.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { describe } from '../util/errors.js';
import { compiledPaths } from '../util/package-root.js';

export interface SandboxLimits {
  timeMs: number;
  /** Of all processes together. */
  memoryBytes: number;
  processes: number;
  outputBytes: number;
}

export interface SandboxOptions {
  /** The program is looked for in the PATH of `env`. */
  command: readonly string[];
  /** Besides PATH, LANG, HOME, TMPDIR and what keeps Python from writing bytecode. */
  env?: Record<string, string>;
  /** Anybody else than the own user needs root. */
  owner: { uid: number; gid: number };
  limits: SandboxLimits;
  /** The mount that the command looks at. Other mounts of ours can be unmounted while it runs. */
  tree?: string;
  /** Called with the pid of the sandbox before the command is started, which happens when this has resolved. */
  onReady?: (pid: number) => Promise<void>;
}

export interface SandboxOutcome {
  /** `failed-to-start`: there is no such program. `sandbox-failed`: nothing was run, and the command is not to blame. */
  kind:
    | 'exited'
    | 'signalled'
    | 'timed-out'
    | 'too-much-memory'
    | 'too-many-processes'
    | 'failed-to-start'
    | 'sandbox-failed';
  code: number | null;
  signal: string | null;
  /** Standard output and standard error, cut in the middle; why, when nothing was run. */
  output: string;
  durationMs: number;
  /** Processes that the command had left running, and that were ended. */
  leftovers: number;
  /** False when the kernel offers nothing that keeps the command from changing what its owner may change. */
  contained: boolean;
}

export interface SandboxCapabilities {
  /** Version of the kernel's Landlock interface; null when there is none. */
  landlock: number | null;
  /** Own process and mount namespaces: root only. */
  namespaces: boolean;
}

const PROGRAM = 'siteswap-sandbox';
const DEFAULT_ENV = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  LANG: 'C.UTF-8',
  PYTHONDONTWRITEBYTECODE: '1',
  PYTHONNOUSERSITE: '1',
};

/** What the program writes about the end. */
interface Report extends Omit<SandboxOutcome, 'signal' | 'output'> {
  signal: number | null;
  reason: string;
}

/** Where the program is; throws when it is nowhere. */
export function sandboxProgram(): string {
  const paths = compiledPaths(PROGRAM);
  const found = paths.find((path) => existsSync(path));
  if (found === undefined) throw new Error(`${PROGRAM} is missing (${paths.join(', ')}): run npm run build:native`);
  return found;
}

/** What this host lets a sandbox do; null when the program is missing or does not run. */
export function sandboxCapabilities(): SandboxCapabilities | null {
  try {
    const { stdout } = spawnSync(sandboxProgram(), ['--capabilities'], { encoding: 'utf8', env: {} });
    const { landlock, namespaces } = JSON.parse(stdout) as { landlock: number; namespaces: boolean };
    return { landlock: landlock || null, namespaces };
  } catch {
    return null;
  }
}

export async function runSandboxed(options: SandboxOptions): Promise<SandboxOutcome> {
  let child: ChildProcess;
  try {
    child = spawn(sandboxProgram(), programArguments(options), {
      cwd: '/',
      env: {},
      stdio: ['pipe', 'pipe', 'pipe', 'pipe'],
    });
  } catch (error) {
    return sandboxFailed(describe(error));
  }
  if (child.pid === undefined) {
    return sandboxFailed(await new Promise((resolve) => child.once('error', (error) => resolve(error.message))));
  }
  const { pid } = child;
  const go = child.stdio[0] as Writable;
  // The program may have ended before it is told to go.
  go.on('error', () => {});
  const output = collect(child.stdio[1] as Readable);
  const complaint = collect(child.stdio[2] as Readable);
  let report: Report | undefined;
  let refused: { error: unknown } | undefined;
  createInterface({ input: child.stdio[3] as Readable }).on('line', (line) => {
    const message = JSON.parse(line) as { ready: true } | Report;
    if (!('ready' in message)) {
      report = message;
      return;
    }
    Promise.resolve(options.onReady?.(pid)).then(
      () => go.write('g'),
      (error: unknown) => {
        refused = { error };
        go.end();
      },
    );
  });
  // Its first process has the same pipes open: when they are closed, nothing that was started is left, even if the
  // program itself was killed.
  const failure = await new Promise<string | null>((resolve) => {
    child.once('close', (code, signal) => resolve(signal ? `killed by ${signal}` : code === 0 ? null : complaint()));
  });
  if (refused) throw refused.error;
  if (failure !== null || report === undefined) return sandboxFailed(`${PROGRAM}: ${failure ?? 'no result'}`);
  const { signal, reason, ...outcome } = report;
  return { ...outcome, signal: signalName(signal), output: output() || reason };
}

function programArguments({ command, env, owner, limits, tree }: SandboxOptions): string[] {
  const scratch = join(temporaryDirectory(owner.uid), `siteswap-sandbox-${randomBytes(8).toString('hex')}`);
  const environment = { ...DEFAULT_ENV, HOME: scratch, TMPDIR: scratch, ...env };
  const numbers = {
    '--uid': owner.uid,
    '--gid': owner.gid,
    '--time-ms': Math.ceil(limits.timeMs),
    '--memory-bytes': limits.memoryBytes,
    '--processes': limits.processes,
    '--output-bytes': limits.outputBytes,
  };
  return [
    ...Object.entries(numbers).flatMap(([name, value]) => [name, String(value)]),
    '--scratch',
    scratch,
    ...(tree === undefined ? [] : ['--tree', tree]),
    ...Object.entries(environment).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
    '--',
    ...command,
  ];
}

/** The usual one, unless it is root's alone (pam_tmpdir) and the command is somebody else's. */
function temporaryDirectory(uid: number): string {
  const usual = tmpdir();
  if (uid === process.getuid?.()) return usual;
  for (let directory = usual; ; directory = dirname(directory)) {
    const { mode, uid: owner } = statSync(directory);
    if (owner !== uid && (mode & 0o001) === 0) return '/tmp';
    if (directory === dirname(directory)) return usual;
  }
}

function collect(stream: Readable): () => string {
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  return () => Buffer.concat(chunks).toString('utf8').trimEnd();
}

function signalName(number: number | null): string | null {
  if (number === null) return null;
  const named = Object.entries(constants.signals).find(([, value]) => value === number);
  return named?.[0] ?? `signal ${number}`;
}

function sandboxFailed(output: string): SandboxOutcome {
  return {
    kind: 'sandbox-failed',
    code: null,
    signal: null,
    output,
    durationMs: 0,
    leftovers: 0,
    contained: true,
  };
}
