/**
 * Runs the tests: `tsx test/run.ts [group…]`; without a group, all of them. Called by the npm scripts `test*` and `lint`.
 *
 * A group is a folder of `test/`. What tests start as processes is brought up to date first (helpers/built.ts). All files go to one run of node's test runner, so that there is one summary, and it is
 * the last thing printed when all is well. Afterwards nothing may be left: no mount, no process (found by a mark in its
 * environment). What is left is named, removed, and fails the run. The run has a temporary directory of its own (TMPDIR),
 * and only mounts in it are the run's: several can run at once.
 * Without /dev/fuse the groups that mount can't run: that is an error unless SITESWAP_TEST_SKIP_FUSE=1.
 */

import { spawn } from 'node:child_process';
import { chmodSync, closeSync, existsSync, mkdtempSync, openSync, readdirSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import './helpers/built.js';
import { cleanUp, findLeftovers, RUN_MARK } from './helpers/leftovers.js';

/** In the order in which they begin: what takes longest first, so that it does not run alone at the end. */
const GROUPS = [
  'native',
  'installers',
  'stress',
  'conformance',
  'crash',
  'lint',
  'cli',
  'property',
  'fake-kernel',
  'unit',
] as const;
const MOUNTING = new Set<string>(['crash', 'conformance', 'installers', 'stress']);
const FILE_TIMEOUT_MS = 25 * 60_000;

function testFiles(group: string): string[] {
  const directory = join('test', group);
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => join(directory, name))
    .sort();
}

function fuseProblem(): string | null {
  try {
    closeSync(openSync('/dev/fuse', 'r+'));
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

function chooseGroups(wanted: string[]): string[] {
  const unknown = wanted.filter((name) => !(GROUPS as readonly string[]).includes(name));
  if (unknown.length > 0) {
    console.error(`error: no such group of tests: ${unknown.join(', ')}`);
    console.error(`hint: groups are ${GROUPS.join(', ')}`);
    process.exit(2);
  }
  const chosen = GROUPS.filter((group) => wanted.length === 0 || wanted.includes(group));
  const problem = fuseProblem();
  if (problem === null || !chosen.some((group) => MOUNTING.has(group))) return chosen;
  if (process.env['SITESWAP_TEST_SKIP_FUSE'] !== '1') {
    console.error(`error: the tests need /dev/fuse: ${problem}`);
    console.error('hint: run on a host with FUSE, or set SITESWAP_TEST_SKIP_FUSE=1 to leave out all tests that mount');
    process.exit(6);
  }
  const kept = chosen.filter((group) => !MOUNTING.has(group));
  console.error(`WARNING: no /dev/fuse: NOT RUN: ${chosen.filter((group) => MOUNTING.has(group)).join(', ')}`);
  return kept;
}

function runNode(files: string[], mark: string, work: string): Promise<number> {
  const program = ['--import', 'tsx', 'test/helpers/run-files.ts', String(FILE_TIMEOUT_MS)];
  const child = spawn(process.execPath, [...program, ...files], {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, [RUN_MARK]: mark, TMPDIR: work, NODE_OPTIONS: '' },
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? 1));
  });
}

const files = chooseGroups(process.argv.slice(2)).flatMap(testFiles);
if (files.length === 0) {
  console.error('error: no test file in these groups');
  process.exit(1);
}
const work = mkdtempSync(join(realpathSync(tmpdir()), 'siteswap-tests-'));
// Tests of ordinary users work in it too.
chmodSync(work, 0o755);
const mark = `${process.pid}-${Date.now()}`;
let exitCode = await runNode(files, mark, work);
const leftovers = findLeftovers(mark, work);
if (leftovers.mounts.length > 0 || leftovers.processes.length > 0) {
  for (const { mountpoint } of leftovers.mounts) console.error(`error: left-over mount: ${mountpoint}`);
  for (const { pid, command } of leftovers.processes) console.error(`error: left-over process: ${pid} ${command}`);
  cleanUp(leftovers);
  exitCode ||= 1;
}
// Never through a mount that could not be removed.
if (findLeftovers(mark, work).mounts.length === 0) rmSync(work, { recursive: true, force: true });
process.exitCode = exitCode;
