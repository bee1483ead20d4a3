/**
 * A small directory with siteswap over it, driven by the real command line: for tests of the commands and of crashes,
 * which need no Python (see mounted-venv.ts for those that do).
 *
 * Invariants: afterwards the mount, its daemon and the directory are gone, and the original directory is what it was.
 * The test's own process never looks into the mount: it would be pinned to what it saw.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { listMounts } from '../../src/daemon/mountinfo.js';
import { ROOT, SITESWAP, testProgram } from './built.js';
import { cleanUp } from './leftovers.js';
import { until } from './mounted-venv.js';
import { diffTrees, hashListing, listTree, type TreeListing } from './tree-hash.js';
import { runProgram, type RunOptions, type RunResult } from './venv.js';

const TIMEOUT_MS = 120_000;

export { SITESWAP } from './built.js';

/** For `test(name, options, …)`: tests that mount run everywhere, unless one says that they can't. */
export const needsFuse = { skip: process.env['SITESWAP_TEST_SKIP_FUSE'] === '1' && 'SITESWAP_TEST_SKIP_FUSE=1' };

/** Says aloud which test does not run, and why. */
export function notRun(t: TestContext, why: string): void {
  process.stderr.write(`WARNING: NOT RUN: ${t.name}: ${why}\n`);
  t.skip(why);
}

export class MountedSite {
  readonly dir: string;
  readonly store: string;
  #lower: TreeListing;

  private constructor(readonly work: string) {
    this.dir = join(work, 'site packages');
    this.store = join(work, '.site packages.siteswap');
    mkdirSync(join(this.dir, 'pkg'), { recursive: true });
    writeFileSync(join(this.dir, 'pkg', '__init__.py'), 'VERSION = 1\n');
    writeFileSync(join(this.dir, 'one.py'), '1\n');
    this.#lower = listTree(this.dir);
  }

  /** Not mounted yet. */
  static make(t: TestContext): MountedSite {
    const site = new MountedSite(realpathSync(mkdtempSync(join(tmpdir(), 'siteswap-site-'))));
    t.after(() => site.#end());
    return site;
  }

  static async mounted(t: TestContext, ...options: string[]): Promise<MountedSite> {
    const site = MountedSite.make(t);
    await site.must('mount', ...options, site.dir);
    return site;
  }

  get isMounted(): boolean {
    return listMounts().some(({ mountpoint }) => mountpoint === this.dir);
  }

  try(args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    const [node, ...words] = [...SITESWAP, ...args];
    const env = { ...process.env, DEBUG: '', NO_COLOR: '1', FORCE_COLOR: undefined, ...options.env };
    return runProgram(node, words, { cwd: ROOT, timeoutMs: TIMEOUT_MS, ...options, env });
  }

  /** Must succeed; its standard output. */
  async must(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.try(args);
    assert.equal(code, 0, `siteswap ${args.join(' ')}: ${stderr}${this.serverLog()}`);
    return stdout;
  }

  async json(...args: string[]): Promise<unknown> {
    return JSON.parse(await this.must(...args, '--json'));
  }

  /** Must fail with this exit code, nothing on stdout, and one line that says what is wrong and one that says what to do. */
  async fails(args: readonly string[], code: number, message: RegExp, options: RunOptions = {}): Promise<void> {
    assertRefused(await this.try(args, options), code, message);
  }

  /** A command in the directory; must succeed. */
  async shell(script: string): Promise<string> {
    const { code, stdout, stderr } = await runProgram('sh', ['-c', script], { cwd: this.dir, timeoutMs: TIMEOUT_MS });
    assert.equal(code, 0, `${script}: ${stderr}${this.serverLog()}`);
    return stdout;
  }

  /** What a new process sees, as one hash. */
  async hash(): Promise<string> {
    return hashListing(await this.listing());
  }

  async listing(): Promise<TreeListing> {
    const words = [testProgram('list-tree'), this.dir];
    const { code, stdout, stderr } = await runProgram(process.execPath, words, { timeoutMs: TIMEOUT_MS });
    assert.equal(code, 0, stderr + this.serverLog());
    return new Map(JSON.parse(stdout) as [string, string][]);
  }

  /** Directory and store, byte for byte. Only while unmounted. */
  snapshot(): { lower: TreeListing; store: TreeListing | null } {
    const made = readdirSync(this.work).includes('.site packages.siteswap');
    return { lower: listTree(this.dir), store: made ? listTree(this.store) : null };
  }

  /** The original directory was changed on purpose: from now on it shall be what it is now. */
  acceptLower(): void {
    this.#lower = listTree(this.dir);
  }

  assertLowerUntouched(): void {
    assert.deepEqual(diffTrees(this.#lower, listTree(this.dir)), []);
  }

  /** Keeper and server. */
  daemons(): { keeper: number[]; server: number[] } {
    const found = { keeper: [] as number[], server: [] as number[] };
    for (const name of readdirSync('/proc')) {
      if (!/^\d+$/.test(name)) continue;
      let command = '';
      try {
        command = readFileSync(`/proc/${name}/cmdline`, 'utf8');
      } catch {
        continue;
      }
      if (!command.includes(`"${this.dir}"`)) continue;
      if (/keeper-main/.test(command)) found.keeper.push(Number(name));
      if (/server-main/.test(command)) found.server.push(Number(name));
    }
    return found;
  }

  async untilNoDaemon(): Promise<void> {
    await until('the daemon has ended', () => {
      const { keeper, server } = this.daemons();
      return keeper.length + server.length === 0;
    });
  }

  serverLog(): string {
    try {
      return `\n--- server.log\n${readFileSync(join(this.store, 'server.log'), 'utf8').split('\n').slice(-20).join('\n')}`;
    } catch {
      return '';
    }
  }

  async #end(): Promise<void> {
    const log = this.serverLog();
    try {
      if (this.isMounted) {
        const { code, stderr } = await this.try(['unmount', '--force', '--lazy', this.dir]);
        assert.equal(code, 0, stderr + log);
      }
      await this.untilNoDaemon();
      this.assertLowerUntouched();
    } finally {
      const { keeper, server } = this.daemons();
      const mounts = listMounts().filter(({ mountpoint }) => mountpoint === this.dir);
      cleanUp({ mounts, processes: [...keeper, ...server].map((pid) => ({ pid, command: '' })) });
      rmSync(this.work, { recursive: true, force: true });
    }
  }
}

export function assertRefused({ code, stdout, stderr }: RunResult, wanted: number, message: RegExp): void {
  assert.equal(code, wanted, stderr);
  assert.match(stderr, message);
  assert.match(stderr, /^error: [^\n]+\nhint: [^\n]+\n$/, 'one line says what is wrong, one what to do');
  assert.equal(stdout, '');
}
