/**
 * The story of siteswap, told by doing it: readers import a package while plain pip upgrades it, an install is killed
 * half-way, and the original comes back. Every claim that is printed is checked; one that fails makes the exit code 1.
 * Everything happens in a temporary directory and is cleaned up, whatever happens. Run by `npm run quickstart`.
 */

import { spawn, type ChildProcess } from 'node:child_process';
import { cpSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const HERE = dirname(fileURLToPath(import.meta.url));
const CLI = join(HERE, '..', 'dist', 'cli', 'main.js');
const PARTS = join(HERE, 'quickstart_parts.py');
const READERS = 2;
const STEP_TIMEOUT_MS = 60_000;

const work = realpathSync(mkdtempSync(join(tmpdir(), 'siteswap-quickstart-')));
const venv = join(work, 'venv');
const python = join(venv, 'bin', 'python');
const children = new Set<ChildProcess>();
let failedClaims = 0;
let siteDirectory = '';

interface Ended {
  code: number;
  stdout: string;
  stderr: string;
}

const ENVIRONMENT = {
  ...process.env,
  PATH: `${join(venv, 'bin')}:${process.env['PATH']}`,
  VIRTUAL_ENV: venv,
  PYTHONDONTWRITEBYTECODE: '1',
  PIP_DISABLE_PIP_VERSION_CHECK: '1',
  PIP_ROOT_USER_ACTION: 'ignore',
  PIP_NO_INDEX: '1',
};

function start(command: string, args: readonly string[]): { child: ChildProcess; ended: Promise<Ended> } {
  const child = spawn(command, args, { cwd: work, env: ENVIRONMENT, stdio: ['ignore', 'pipe', 'pipe'] });
  children.add(child);
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output.stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output.stderr += text));
  const timer = setTimeout(() => child.kill('SIGKILL'), STEP_TIMEOUT_MS);
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(timer);
      children.delete(child);
      resolve({ code: code ?? 137, ...output });
    });
  });
  return { child, ended };
}

async function must(command: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await start(command, args).ended;
  if (code !== 0) throw new Error(`${[command, ...args].join(' ')} ended with ${code}\n${stdout}${stderr}`);
  return stdout.trim();
}

function siteswap(...args: string[]): Promise<string> {
  return must(process.execPath, CLI, ...args);
}

function chapter(text: string): void {
  console.log(`\n== ${text}`);
}

function say(text: string): void {
  console.log(text.replaceAll(/^/gm, '   '));
}

function claim(text: string, holds: boolean): void {
  if (!holds) failedClaims++;
  console.log(`   ${holds ? 'ok      ' : 'FAILED  '}${text}`);
}

async function tree(): Promise<string> {
  return must('python3', PARTS, 'tree', siteDirectory);
}

/** Programs that import `demo`, one after another, each in a fresh process, until they are stopped. */
class Readers {
  readonly counts = new Map<string, number>();
  readonly failures: string[] = [];
  /** Readers that started after another had met a newer version, and yet met an older one. */
  backwards = 0;
  #newest = '';
  #running = true;
  readonly #loops = Array.from({ length: READERS }, () => this.#loop());

  async stop(): Promise<void> {
    this.#running = false;
    await Promise.all(this.#loops);
  }

  async until(version: string): Promise<void> {
    const deadline = Date.now() + STEP_TIMEOUT_MS;
    const before = this.counts.get(version) ?? 0;
    while ((this.counts.get(version) ?? 0) < before + 2 * READERS) {
      if (Date.now() > deadline) throw new Error(`no program could import demo ${version}: ${this.describe()}`);
      await sleep(20);
    }
  }

  async #loop(): Promise<void> {
    while (this.#running) {
      const newestAtStart = this.#newest;
      const { code, stdout, stderr } = await start(python, [PARTS, 'read']).ended;
      const version = stdout.trim();
      if (code !== 0) this.failures.push(stderr.trim().split('\n').at(-1) ?? '');
      else this.counts.set(version, (this.counts.get(version) ?? 0) + 1);
      if (code === 0 && version < newestAtStart) this.backwards++;
      if (code === 0 && version > this.#newest) this.#newest = version;
    }
  }

  get torn(): number {
    return [...this.counts].reduce((sum, [version, count]) => (version.includes(',') ? sum + count : sum), 0);
  }

  describe(): string {
    const seen = [...this.counts]
      .sort(([a], [b]) => a.localeCompare(b))
      .map(([version, count]) => `${count} × ${version.replace(',', ' mixed with ')}`);
    return `${seen.join(', ') || 'nothing'}; ${this.failures.length} failed`;
  }
}

async function prepare(): Promise<{ v2: string; v3: string }> {
  chapter('A virtual environment with demo 1.0, as anybody has one');
  await must('python3', '-m', 'venv', venv);
  siteDirectory = await must(python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))');
  const wheel = (version: string, modules: number): Promise<string> =>
    must('python3', PARTS, 'wheel', version, String(modules), work);
  await must('pip', 'install', await wheel('1.0', 300));
  say(siteDirectory);
  return { v2: await wheel('2.0', 300), v3: await wheel('3.0', 4000) };
}

async function withoutSiteswap(v2: string): Promise<void> {
  chapter('For comparison, the upgrade without siteswap (and back again)');
  const backup = join(work, 'backup');
  cpSync(venv, backup, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
  const readers = new Readers();
  await readers.until('1.0');
  await must('pip', 'install', '--upgrade', v2);
  await readers.until('2.0');
  await readers.stop();
  say(`programs that imported demo meanwhile: ${readers.describe()}`);
  if (readers.failures[0]) say(`such as: ${readers.failures[0]}`);
  rmSync(venv, { recursive: true });
  cpSync(backup, venv, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
  rmSync(backup, { recursive: true });
}

async function upgrade(v2: string): Promise<void> {
  chapter('pip install --upgrade demo 2.0, while programs import it');
  const readers = new Readers();
  await readers.until('1.0');
  const begun = Date.now();
  await must('pip', 'install', '--upgrade', v2);
  const next = await must(python, PARTS, 'read');
  say(`pip took ${((Date.now() - begun) / 1000).toFixed(1)} s`);
  claim(`the very next program after pip imports 2.0`, next === '2.0');
  await readers.until('2.0');
  await readers.stop();
  say(`programs that imported demo meanwhile: ${readers.describe()}`);
  claim('every one of them could import it', readers.failures.length === 0);
  for (const failure of readers.failures.slice(0, 3)) say(failure);
  claim('none saw parts of both versions', readers.torn === 0);
  claim(
    'both versions were seen, and never the old one after the new one',
    readers.counts.size === 2 && readers.backwards === 0,
  );
}

async function mutations(): Promise<number> {
  const status = JSON.parse(await siteswap('status', siteDirectory, '--json')) as {
    transactions: { mutations: number }[];
  };
  return status.transactions[0]?.mutations ?? 0;
}

async function killedInstall(v3: string): Promise<void> {
  chapter('pip install --upgrade demo 3.0 (4000 files), killed half-way with SIGKILL');
  const before = await tree();
  const { child, ended } = start('pip', ['install', '--upgrade', v3]);
  let changes = 0;
  while (child.exitCode === null && (changes = await mutations()) < 2000) await sleep(10);
  child.kill('SIGKILL');
  const { code } = await ended;
  say(`killed when it had made ${changes} changes`);
  claim('it was killed in the middle', code === 137 && changes >= 2000);
  await siteswap('wait', siteDirectory, '--timeout', '30');
  const after = await tree();
  claim(
    `nothing changed: ${before.split(' ')[1]} entries with the same names, bytes, modes, owners, times`,
    before === after,
  );
  claim('programs still import 2.0', (await must(python, PARTS, 'read')) === '2.0');
}

async function main(): Promise<void> {
  const { v2, v3 } = await prepare();
  await withoutSiteswap(v2);
  const original = await tree();
  chapter(`siteswap mount ${siteDirectory}`);
  await siteswap('mount', siteDirectory);
  claim(
    `it shows what was there: ${original.split(' ')[1]} entries, hash ${original.split(' ')[0]}`,
    (await tree()) === original,
  );
  await upgrade(v2);
  chapter('siteswap status, siteswap log');
  say(await siteswap('status', siteDirectory));
  console.log();
  say(await siteswap('log', siteDirectory));
  await killedInstall(v3);
  chapter('siteswap unmount');
  await siteswap('unmount', siteDirectory);
  const restored = await tree();
  claim(`the original is back, bit for bit: hash ${restored.split(' ')[0]}`, restored === original);
  claim('programs import 1.0 again', (await must(python, PARTS, 'read')) === '1.0');
}

async function cleanUp(): Promise<void> {
  for (const child of children) child.kill('SIGKILL');
  if (siteDirectory !== '') await start(process.execPath, [CLI, 'unmount', '--force', '--lazy', siteDirectory]).ended;
  rmSync(work, { recursive: true, force: true });
}

let interrupted = false;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    interrupted = true;
    for (const child of children) child.kill('SIGKILL');
  });
}
try {
  await main();
  console.log(failedClaims === 0 ? '\nEverything above was checked.' : `\n${failedClaims} claims FAILED.`);
} catch (error) {
  failedClaims++;
  console.error(interrupted ? 'interrupted' : `\nerror: ${error instanceof Error ? error.message : String(error)}`);
} finally {
  await cleanUp();
}
process.exitCode = failedClaims === 0 ? 0 : 1;
