/** Carries out installs: makes the wheel, has a writer.py run the installer, and keeps the history of both. */
import { rmSync } from 'node:fs';
import { buildDistribution, type Distribution } from './distribution.js';
import type { History, Look, Outcome, Value } from './history.js';
import { PythonProcess, scriptPath } from './python-process.js';

const INSTALL_TIMEOUT_MS = 90_000;

export interface InstallsOptions {
  python: string;
  directory: string;
  /** Names in the directory that are not ours. */
  ignored: readonly string[];
  scratch: string;
  distributions: readonly Distribution[];
  /** A real pip, for a share of the installs; null: our own only. */
  pip: string | null;
  history: History;
}

export interface Wish {
  name: string;
  value: Value;
  contended?: boolean;
  killAfterMs?: number;
  /** A kind of look that follows at once. */
  look?: 'import' | 'walk' | 'entry-points';
  withPip?: boolean;
  /** By a process that has looked at the directory before. */
  notebook?: boolean;
}

export class Installs {
  #lastOp = 0;
  #lastSerial = 0;

  constructor(private readonly options: InstallsOptions) {}

  newVersion(major: number): string {
    return `${major}.${++this.#lastSerial}`;
  }

  async run(runner: Runner, wish: Wish): Promise<Outcome> {
    const { options } = this;
    const { directory, history, scratch, distributions } = options;
    const { name, value, contended = false, killAfterMs = null, look = null, withPip = false, notebook = false } = wish;
    const op = ++this.#lastOp;
    history.operations.set(op, { id: op, writer: runner.name, distribution: name, value, contended });
    const wheel =
      value &&
      buildDistribution(
        distributions.find((each) => each.name === name)!,
        value,
        scratch,
      );
    const { outcome, look: looked } = await runner.run({
      op,
      command: withPip && options.pip !== null ? this.#pip(options.pip, name, wheel, op) : this.#own(name, wheel, op),
      killAfterMs,
      timeoutMs: INSTALL_TIMEOUT_MS,
      look,
      notebook,
      contended,
      directory,
      names: distributions.map((each) => each.name),
      ignored: options.ignored,
    });
    history.outcomes.push(outcome);
    if (looked) history.looks.push(looked);
    if (wheel !== null) rmSync(wheel);
    return outcome;
  }

  #own(name: string, wheel: string | null, op: number): string[] {
    const what = wheel === null ? ['uninstall', name] : ['install', wheel];
    const { python, directory } = this.options;
    const [command, argument] = what as [string, string];
    const flags = ['-E', '-s', '-S', '-B'];
    return [python, ...flags, scriptPath('pip'), command, '--directory', directory, '--op', String(op), argument];
  }

  /** pip has no option that means nothing to it: the operation's number goes where only a reader of argv looks. */
  #pip(pip: string, name: string, wheel: string | null, op: number): string[] {
    const quiet = ['-q', '--disable-pip-version-check'];
    const tag = `op-${op}`;
    if (wheel === null)
      return [pip, ...quiet, '--cache-dir', `${this.options.scratch}/${tag}`, 'uninstall', '-y', name];
    const offline = ['--no-index', '--no-deps', '--force-reinstall'];
    return [pip, ...quiet, '--cache-dir', `${this.options.scratch}/${tag}`, 'install', ...offline, wheel];
  }
}

interface Answer {
  outcome: Outcome;
  look: Look | null;
}

/** One writer.py: one installer at a time. */
export class Runner {
  readonly process: PythonProcess;
  #resolve: ((answer: Answer) => void) | null = null;

  constructor(
    readonly name: string,
    python: string,
  ) {
    this.process = new PythonProcess(name, python, [scriptPath('writer.py')], (value) => {
      const { look, ...outcome } = value as Outcome & { look: Look | null };
      this.#resolve?.({ outcome, look });
    });
  }

  run(task: object): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      void this.process.ended.then(() => reject(new Error(this.process.failure ?? `${this.name} has ended`)));
      this.process.send(task);
    });
  }
}
