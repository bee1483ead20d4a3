/**
 * A virtual environment with siteswap mounted over its site-packages, or all of it, by the real command line, for one test.
 *
 * Invariants: every program that may touch the mount has a timeout; whatever the test does, afterwards the mount, its
 * daemon and the directory are gone, and the lower is what it was before the mount, to the inode number: every test that
 * uses this proves that in passing.
 * The test's own process never lists the mount's root: it would be pinned to what it saw (see list-tree.ts).
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { listMounts } from '../../src/daemon/mountinfo.js';
import { defaultStorePath } from '../../src/store/layout.js';
import {
  generationSchema,
  statusSchema,
  type GenerationSummary,
  type Status,
} from '../../src/daemon/control-protocol.js';
import * as v from 'valibot';
import { ROOT, SITESWAP, testProgram } from './built.js';
import { cleanUp } from './leftovers.js';
import { diffTrees, listTree, type TreeListing } from './tree-hash.js';
import { makeVenv, runProgram, type RunOptions, type RunResult, type Venv } from './venv.js';

const CLI_TIMEOUT_MS = 120_000;
const GONE_TIMEOUT_MS = 60_000;

export interface MountedVenvOptions {
  /** Options of `siteswap mount`. */
  mount?: readonly string[];
  /** SITESWAP_DISABLE of the daemon. */
  disable?: string;
  pip?: boolean;
  /** Mount over the whole environment. */
  whole?: boolean;
  /** What is installed before the mount. */
  prepare?: (venv: Venv, work: string) => Promise<void>;
}

export async function mountedVenv(t: TestContext, options: MountedVenvOptions = {}): Promise<MountedVenv> {
  const work = realpathSync(mkdtempSync(join(tmpdir(), 'siteswap-installers-')));
  let mounted: MountedVenv | null = null;
  t.after(async () => {
    try {
      await mounted?.end();
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });
  const venv = makeVenv(join(work, 'venv'), { pip: options.pip ?? true });
  await options.prepare?.(venv, work);
  const over = options.whole ? venv.prefix : venv.sitePackages;
  mounted = new MountedVenv(work, venv, over, options.disable ?? '', listTree(over, { identity: true }));
  await mounted.mount(options.mount);
  return mounted;
}

export class MountedVenv {
  readonly #children = new Set<ChildProcess>();

  constructor(
    /** A scratch directory, outside of the mount. */
    readonly work: string,
    readonly venv: Venv,
    readonly mountpoint: string,
    private readonly disable: string,
    private readonly lower: TreeListing,
  ) {}

  get site(): string {
    return this.venv.sitePackages;
  }

  get python(): string {
    return this.venv.python;
  }

  mount(options: readonly string[] = []): Promise<string> {
    return this.siteswap('mount', ...options, this.mountpoint);
  }

  /** Runs the command line; it must succeed. Its standard output. */
  async siteswap(...args: string[]): Promise<string> {
    const result = await this.trySiteswap(args);
    assert.equal(result.code, 0, `siteswap ${args.join(' ')}: ${result.stdout}${result.stderr}${this.serverLog()}`);
    return result.stdout;
  }

  trySiteswap(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const [node, ...words] = [...SITESWAP, ...args];
    return runProgram(node, words, {
      cwd: ROOT,
      timeoutMs: CLI_TIMEOUT_MS,
      ...options,
      env: { ...this.venv.env, ...options.env, SITESWAP_DISABLE: this.disable },
    });
  }

  /** `siteswap run -- COMMAND`. */
  tryRun(command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return this.trySiteswap(['run', this.mountpoint, '--', ...command], options);
  }

  async status(): Promise<Status> {
    return v.parse(statusSchema, JSON.parse(await this.siteswap('status', this.mountpoint, '--json')));
  }

  /** Newest first. */
  async log(): Promise<GenerationSummary[]> {
    const log: unknown = JSON.parse(await this.siteswap('log', this.mountpoint, '--json'));
    return v.parse(v.object({ generations: v.array(generationSchema) }), log).generations;
  }

  /** When no installer runs and no commit is pending. */
  async settle(): Promise<void> {
    await this.siteswap('wait', this.mountpoint, '--timeout', '110');
  }

  /** Runs a program of the environment, or one by its path; it must succeed. Its standard output. */
  async must(program: string, ...args: string[]): Promise<string> {
    const result = await this.venv.run(program, args);
    const told = `${program} ${args.join(' ')}: ${result.code ?? result.signal}\n${result.stdout}${result.stderr}`;
    assert.equal(result.code, 0, told + this.serverLog());
    return result.stdout;
  }

  /** Starts a program that is killed at the end of the test, if need be. */
  start(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    const path = program.includes('/') ? program : join(this.venv.prefix, 'bin', program);
    const child = spawn(path, args, {
      env: { ...this.venv.env, ...env },
      stdio: ['pipe', 'pipe', 'inherit'],
      detached: true,
    });
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    return child;
  }

  /** Everything that a new process sees. */
  async listing(): Promise<TreeListing> {
    const words = [testProgram('list-tree'), this.site];
    const listed = await runProgram(process.execPath, words, { timeoutMs: CLI_TIMEOUT_MS });
    assert.equal(listed.code, 0, listed.stderr);
    return new Map(JSON.parse(listed.stdout) as [string, string][]);
  }

  serverLog(lines = 30): string {
    try {
      const path = join(defaultStorePath(this.mountpoint), 'server.log');
      return `\n--- server.log\n${readFileSync(path, 'utf8').split('\n').slice(-lines).join('\n')}`;
    } catch {
      return '';
    }
  }

  async unmount(): Promise<void> {
    await this.siteswap('unmount', this.mountpoint);
    this.assertLowerUntouched();
  }

  /** Only while unmounted. */
  assertLowerUntouched(): void {
    assert.deepEqual(diffTrees(this.lower, listTree(this.mountpoint, { identity: true })), [], 'the lower was changed');
  }

  /** Leaves nothing. Throws when something had to be removed by force, or the lower is not what it was. */
  async end(): Promise<void> {
    for (const child of this.#children) killTree(child.pid!);
    const isOurs = ({ mountpoint }: { mountpoint: string }): boolean => mountpoint.startsWith(`${this.work}/`);
    let refused = '';
    if (listMounts().some(isOurs)) {
      const unmounted = await this.trySiteswap(['unmount', '--force', '--lazy', this.mountpoint]);
      if (unmounted.code !== 0) refused = `unmount: ${unmounted.stderr}`;
    }
    const left = listMounts().filter(isOurs);
    const deadline = Date.now() + GONE_TIMEOUT_MS;
    if (left.length === 0) while (this.#daemons().length > 0 && Date.now() < deadline) await sleep(20);
    const daemons = this.#daemons();
    const log = this.serverLog();
    cleanUp({ mounts: left, processes: daemons.map((pid) => ({ pid, command: '' })) });
    assert.equal(refused, '', log);
    assert.deepEqual(left, [], `mounts were left${log}`);
    assert.deepEqual(daemons, [], `daemons were left${log}`);
    this.assertLowerUntouched();
  }

  /** Keeper and server: they have the mountpoint in their arguments. */
  #daemons(): number[] {
    return processesWhere(
      (command) => command.includes(`"${this.mountpoint}"`) && /(keeper|server)-main/.test(command),
    );
  }
}

function processesWhere(test: (command: string) => boolean): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return test(readFileSync(`/proc/${pid}/cmdline`, 'utf8'));
      } catch {
        return false;
      }
    });
}

/** The leader of a process group that `start` made, with all in it. */
export function killTree(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended.
  }
}

/** Until `condition` holds; throws with `what` when it does not within the time. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, ms = 100_000): Promise<void> {
  const deadline = Date.now() + ms;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`waited too long until ${what}`);
    await sleep(10);
  }
}

/** A script beside the mount. One that is there already stays untouched: an interpreter may be about to read it. */
export function writeScript({ work }: { work: string }, name: string, text: string): string {
  const path = join(work, name);
  if (!existsSync(path) || readFileSync(path, 'utf8') !== text) writeFileSync(path, text, { mode: 0o755 });
  return path;
}
