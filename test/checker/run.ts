/** One run of the checker: starts readers and writers, stops them, cleans up, and gives the history. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cleanEnvironment } from '../helpers/venv.js';
import { replayLog, replayOutcomes, type Replay } from './commit-log.js';
import type { Distribution } from './distribution.js';
import type { History, Look } from './history.js';
import { Installs, Runner } from './installs.js';
import { PythonProcess, scriptPath } from './python-process.js';
import { Random } from './random.js';
import { SiteswapDirectory } from './siteswap-mount.js';
import { DISTRIBUTIONS_OF, write, type WriterKind } from './writers.js';

export const READER_KINDS = ['import', 'lazy', 'entry-points', 'walk', 'descriptors', 'stat'] as const;
export type ReaderKind = (typeof READER_KINDS)[number];

export interface RunOptions {
  directory: string;
  mode: 'plain' | 'siteswap';
  seconds: number;
  /** Ends earlier when so many installs have succeeded. */
  commits: number;
  seed: number;
  readers: readonly ReaderKind[];
  writers: readonly WriterKind[];
  python: string;
  pip: string | null;
  pipShare: number;
  readerPauseMs: number;
  writerPauseMs: number;
  onProgress: (text: string) => void;
  /** Ends the run early. */
  signal: AbortSignal;
}

const BIG_PAGES = 768;
const SMALL_PAGES = 48;
const LAST_LOOKS_MS = 500;
const PROGRESS_MS = 10_000;
const LIST = 'import os, sys; print("\\n".join(os.listdir(sys.argv[1])))';
const REMOVE = `import os, shutil, sys
for name in os.listdir(sys.argv[1]):
    if name not in sys.argv[2:]:
        shutil.rmtree(os.path.join(sys.argv[1], name), ignore_errors=True)`;

export async function runChecker(options: RunOptions): Promise<{ history: History; replay: Replay; seconds: number }> {
  const scratch = mkdtempSync(join(tmpdir(), 'siteswap-checker-'));
  try {
    return await new Run(options, scratch).run();
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

class Run {
  readonly #history: History;
  readonly #random: Random;
  readonly #processes: PythonProcess[] = [];
  readonly #ignored: string[];
  readonly #installs: Installs;
  readonly #mount: SiteswapDirectory | null;

  constructor(
    private readonly options: RunOptions,
    private readonly scratch: string,
  ) {
    const { directory, python, pip, seed, writers, mode } = options;
    // Not by this process: who has looked at a mount keeps its generation alive.
    this.#ignored = this.#python(LIST, directory).split('\n').filter(Boolean);
    this.#random = new Random(seed);
    const distributions = distributionsFor(writers);
    const names = distributions.map(({ name }) => name);
    this.#history = { distributions: names, operations: new Map(), outcomes: [], looks: [] };
    const history = this.#history;
    this.#installs = new Installs({ python, directory, ignored: this.#ignored, scratch, distributions, pip, history });
    this.#mount = mode === 'siteswap' ? SiteswapDirectory.find(directory) : null;
    if (mode === 'siteswap' && this.#mount === null) throw new Error(`${directory} is no siteswap mount`);
  }

  async run(): Promise<{ history: History; replay: Replay; seconds: number }> {
    await this.#mount?.begin();
    const setup = this.#runner('setup');
    try {
      // Everything there first: otherwise most looks find nothing.
      for (const name of this.#history.distributions) {
        await this.#installs.run(setup, { name, value: this.#installs.newVersion(5) });
      }
      const begun = performance.now();
      const readers = this.options.readers.map((kind, index) => this.#reader(kind, index));
      await this.#write(begun);
      await this.#mount?.settle();
      await sleep(LAST_LOOKS_MS);
      await Promise.all(readers.map((reader) => reader.stop()));
      const seconds = (performance.now() - begun) / 1000;
      const history = this.#history;
      const replay = this.#mount ? replayLog(history, await this.#mount.generations()) : replayOutcomes(history);
      for (const { failure } of this.#processes) if (failure !== null) replay.problems.push(failure);
      return { history, replay, seconds };
    } finally {
      await this.#cleanUp();
    }
  }

  async #write(begun: number): Promise<void> {
    const { seconds, commits, signal, pipShare, writerPauseMs: pauseMs, onProgress } = this.options;
    const done = (): number => this.#history.outcomes.filter(({ code }) => code === 0).length;
    const goesOn = (): boolean =>
      !signal.aborted && performance.now() - begun < seconds * 1000 && done() < commits && this.#died() === null;
    const progress = setInterval(() => {
      onProgress(`${done()} installs, ${this.#history.looks.length} observations`);
    }, PROGRESS_MS);
    try {
      await Promise.all(
        this.options.writers.map((kind, index) => {
          const runners = [this.#runner(`${kind} ${index}`), this.#runner(`${kind} ${index} (2nd)`)] as const;
          const random = new Random(this.#random.integer(2 ** 31));
          const dropRefused = async (): Promise<void> => this.#mount?.dropRefused();
          const installs = this.#installs;
          return write(kind, { installs, runners, random, pauseMs, pipShare, goesOn, dropRefused });
        }),
      );
    } finally {
      clearInterval(progress);
    }
  }

  /** A reader that has ended by itself. */
  #died(): string | null {
    return this.#processes.find(({ failure, stopping }) => failure !== null && !stopping)?.failure ?? null;
  }

  #reader(kind: ReaderKind, index: number): PythonProcess {
    const { directory, readerPauseMs } = this.options;
    const ignored = join(this.scratch, 'ignored');
    writeFileSync(ignored, this.#ignored.join('\n'));
    const about = { directory, names: this.#history.distributions.join(','), ignored };
    const numbers = { seed: this.#random.integer(2 ** 31), pause: readerPauseMs / 1000 };
    const flags = Object.entries({ ...about, ...numbers }).flatMap(([name, value]) => [`--${name}`, String(value)]);
    const args = [scriptPath('reader.py'), kind, ...flags];
    return this.#start(`reader ${kind} ${index}`, args, (look) => this.#history.looks.push(look as Look));
  }

  #runner(name: string): Runner {
    const runner = new Runner(`writer ${name}`, this.options.python);
    this.#processes.push(runner.process);
    return runner;
  }

  #start(name: string, args: string[], onLine: (value: unknown) => void): PythonProcess {
    const started = new PythonProcess(name, this.options.python, args, onLine);
    this.#processes.push(started);
    return started;
  }

  /** The directory is as it was before, also after an error. */
  async #cleanUp(): Promise<void> {
    for (const each of this.#processes) each.stopping = true;
    await Promise.all(this.#processes.map((each) => each.stop()));
    this.#python(REMOVE, this.options.directory, ...this.#ignored);
    await this.#mount?.settle();
    await this.#mount?.dropRefused();
  }

  #python(program: string, ...args: string[]): string {
    const options = { encoding: 'utf8', timeout: 60_000, env: cleanEnvironment(), cwd: '/' } as const;
    return execFileSync(this.options.python, ['-E', '-s', '-S', '-c', program, ...args], options);
  }
}

function distributionsFor(writers: readonly WriterKind[]): Distribution[] {
  const names = new Set(writers.flatMap((kind) => DISTRIBUTIONS_OF[kind]));
  return [...names].map((name, index) => ({ name, pages: index === 0 ? BIG_PAGES : SMALL_PAGES }));
}
