/**
 * The checker: tries to prove that readers of a site-packages directory can see half of an install.
 *
 *     npx tsx test/checker/main.ts --directory DIR [--mode plain|siteswap] [--seconds N] [--commits N] [--seed S]
 *         [--readers import,lazy,…] [--writers upgrade,kill,…] [--pip PROGRAM --pip-share 0.2] [--json]
 *
 * DIR is any directory: a plain one, one on another overlay, a siteswap mount. The checker installs distributions of its
 * own into it, lets many processes look, judges what they saw (judge.ts), and removes what it installed.
 * Exit code: 0 no violation, 1 violations, 2 usage.
 */
import { execFileSync } from 'node:child_process';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { findMount } from '../../src/daemon/mountinfo.js';
import { judge } from './judge.js';
import { formatReport, makeReport } from './report.js';
import { READER_KINDS, runChecker, type RunOptions } from './run.js';
import { WRITER_KINDS } from './writers.js';

function usage(message: string): never {
  console.error(`error: ${message}`);
  console.error(`hint: readers: ${READER_KINDS.join(', ')}; writers: ${WRITER_KINDS.join(', ')}`);
  process.exit(2);
}

function parse(): { json: boolean; run: RunOptions } {
  const { values } = parseArgs({
    options: {
      directory: { type: 'string' },
      mode: { type: 'string' },
      seconds: { type: 'string', default: '30' },
      commits: { type: 'string', default: '1000000' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      readers: { type: 'string', default: READER_KINDS.join(',') },
      writers: { type: 'string', default: WRITER_KINDS.join(',') },
      python: { type: 'string', default: 'python3' },
      pip: { type: 'string' },
      'pip-share': { type: 'string', default: '0.2' },
      'reader-pause': { type: 'string', default: '20' },
      'writer-pause': { type: 'string', default: '100' },
      json: { type: 'boolean', default: false },
    },
  });
  if (values.directory === undefined) usage('--directory is missing');
  const directory = resolve(values.directory);
  const mode = values.mode ?? (findMount(directory) === null ? 'plain' : 'siteswap');
  if (mode !== 'plain' && mode !== 'siteswap') usage(`no such mode: ${mode}`);
  const abort = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => abort.abort());
  const json = values.json;
  return {
    json,
    run: {
      directory,
      mode,
      seconds: number(values.seconds),
      commits: number(values.commits),
      seed: number(values.seed),
      readers: chosen(values.readers, READER_KINDS),
      writers: chosen(values.writers, WRITER_KINDS),
      python: realPython(values.python),
      pip: values.pip === undefined ? null : resolve(values.pip),
      pipShare: values.pip === undefined ? 0 : number(values['pip-share']),
      readerPauseMs: number(values['reader-pause']),
      writerPauseMs: number(values['writer-pause']),
      onProgress: (text) => (json ? undefined : console.error(text)),
      signal: abort.signal,
    },
  };
}

function number(text: string): number {
  const value = Number(text);
  if (text === '' || !Number.isFinite(value) || value < 0) usage(`not a number: ${text}`);
  return value;
}

function chosen<T extends string>(text: string, kinds: readonly T[]): T[] {
  const names = text.split(',').filter(Boolean);
  return names.map((name) => kinds.find((kind) => kind === name) ?? usage(`no such kind: ${name}`));
}

/** Not a wrapper script, which would cost more than a look. */
function realPython(python: string): string {
  return execFileSync(python, ['-c', 'import sys; print(sys.executable)'], { encoding: 'utf8' }).trim();
}

const { json, run } = parse();
const { history, replay, seconds } = await runChecker(run);
const report = makeReport({ ...run, seconds }, history, replay, judge(history, replay));
// `run` has more than a report shows.
const { directory, mode, seed, observations, installs, violations, counts, examples } = report;
const shown = { directory, mode, seed, seconds, observations, installs, violations, counts, examples };
console.log(json ? JSON.stringify(shown, null, 2) : formatReport(shown));
process.exitCode = violations === 0 ? 0 : 1;
