/**
 * One verification: the checks of files, then what the environment's own interpreter makes of the staged tree, then the
 * user's tests. Whatever runs code that was installed runs in a sandbox, with no more rights than its installer had.
 * Called by main.ts.
 */
import { lstatSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, resolve } from 'node:path';
import { CHECKS } from '../python/checks/index.js';
import type { Finding } from '../python/checks/check.js';
import type { TreeReader } from '../python/distributions.js';
import { readEnvironment, type PythonEnvironment } from '../python/environment.js';
import { verify } from '../python/verify.js';
import { modulesOfDependents } from './dependents.js';
import { Hasher } from './hash.js';
import { oneLine } from './import-script.js';
import { importTest, touchedModules, type View } from './imports.js';
import { askInterpreter, INTERPRETER_CHECK, type InterpreterFacts } from './interpreter.js';
import type { Job, Report } from './protocol.js';
import { runSandboxed, type SandboxOutcome } from './sandbox.js';
import { stagedTree } from './trees.js';

/** An interpreter lists the distributions that it finds, on one line. */
const OUTPUT_BYTES = 1 << 20;

export interface VerifyHost {
  before: TreeReader;
  /** From now on this process sees that tree. */
  observe: (pid: number, view: View) => void;
  onCheck: (name: string) => void;
}

export async function verifyJob(job: Job, host: VerifyHost): Promise<Report> {
  const { level, mountpoint, changes } = job;
  const verification = new Verification(job, host);
  const after = stagedTree(mountpoint);
  const looksAtFiles = level !== 'none';
  const environment = await readEnvironment(mountpoint);
  const facts = looksAtFiles && environment !== null ? await verification.interpreter(environment) : null;
  const hasher = new Hasher(mountpoint);
  try {
    const skip = new Set(job.skip);
    const { findings, packages, checks } = await verify(
      {
        before: host.before,
        after,
        changes,
        hash: (path, algorithm) => hasher.hash(path, algorithm),
        markers: facts?.markers ?? null,
        installedElsewhere: facts?.elsewhere ?? [],
        existsOutside: (path) => exists(resolve(mountpoint, path)),
      },
      { checks: looksAtFiles ? CHECKS.filter(({ name }) => !skip.has(name)) : [], onCheck: host.onCheck },
    );
    verification.findings.push(...findings);
    verification.checks.push(...checks);
    if (environment !== null && facts !== null && verification.testsImports) {
      const modules = touchedModules(changes, after);
      const dependents = level === 'deep' ? await modulesOfDependents(packages, after) : [];
      await verification.imports(environment, [...new Set([...modules, ...dependents])]);
    }
    for (const command of job.commands) await verification.command(command, environment);
    return {
      findings: verification.findings,
      packages,
      checks: verification.checks,
      interpreter: facts,
    };
  } finally {
    await hasher.close();
  }
}

class Verification {
  readonly findings: Finding[] = [];
  readonly checks: Report['checks'] = [];
  readonly #skip: ReadonlySet<string>;

  constructor(
    private readonly job: Job,
    private readonly host: VerifyHost,
  ) {
    this.#skip = new Set(job.skip);
  }

  get testsImports(): boolean {
    const { level } = this.job;
    return (level === 'import' || level === 'deep') && !this.#skip.has('import');
  }

  async interpreter(environment: PythonEnvironment): Promise<InterpreterFacts | null> {
    let facts: InterpreterFacts | null = null;
    await this.#timed(INTERPRETER_CHECK, async () => {
      const asked = await askInterpreter({
        interpreter: environment.interpreter,
        root: this.job.mountpoint,
        run: (view, command) => this.#run(view, command, this.job.limits.importMs, environment),
        importsFollow: this.testsImports,
      });
      facts = asked.facts;
      return asked.findings;
    });
    return facts;
  }

  imports(environment: PythonEnvironment, modules: readonly string[]): Promise<void> {
    return this.#timed('import', () =>
      importTest({
        interpreter: environment.interpreter,
        modules,
        run: (view, command) => this.#run(view, command, this.job.limits.importMs, environment),
        concurrency: availableParallelism(),
        onProgress: ({ done, total }) => this.host.onCheck(`import ${done}/${total}`),
      }),
    );
  }

  command(command: string, environment: PythonEnvironment | null): Promise<void> {
    return this.#timed('test', async () => {
      const outcome = await this.#run('after', ['/bin/sh', '-c', command], this.job.limits.commandMs, environment);
      if (outcome.kind === 'exited' && outcome.code === 0) return [];
      const last = outcome.output.trimEnd().split('\n').at(-1);
      const message = `the test '${oneLine(command)}' ${endOf(outcome)}${last ? `: ${oneLine(last)}` : ''}`;
      return [{ severity: 'error', check: 'test', path: '', message }];
    });
  }

  async #timed(name: string, work: () => Promise<Finding[]>): Promise<void> {
    if (this.#skip.has(name)) return;
    this.host.onCheck(name);
    const start = performance.now();
    this.findings.push(...(await work()));
    this.checks.push({ name, durationMs: performance.now() - start });
  }

  #run(
    view: View,
    command: readonly string[],
    timeMs: number,
    environment: PythonEnvironment | null,
  ): Promise<SandboxOutcome> {
    const { owner, limits } = this.job;
    const { memoryBytes, processes } = limits;
    return runSandboxed({
      command,
      env: environment === null ? {} : environmentOf(environment),
      owner,
      tree: this.job.mountpoint,
      limits: { timeMs, memoryBytes, processes, outputBytes: OUTPUT_BYTES },
      // What it starts sees what the verifier sees, unless it is told otherwise.
      onReady: (pid) => Promise.resolve(view === 'before' ? this.host.observe(pid, view) : undefined),
    });
  }
}

function endOf({ kind, code, signal, durationMs }: SandboxOutcome): string {
  switch (kind) {
    case 'exited':
      return `ended with ${code}`;
    case 'signalled':
      return `was killed by ${signal}`;
    case 'timed-out':
      return `was not done after ${(durationMs / 1000).toFixed(1)} s`;
    case 'too-much-memory':
      return 'used more memory than it may';
    case 'too-many-processes':
      return 'started more processes than it may';
    case 'failed-to-start':
      return 'could not be started';
    case 'sandbox-failed':
      return 'could not be run, since the sandbox failed';
  }
}

function environmentOf({ interpreter, prefix, kind }: PythonEnvironment): Record<string, string> {
  const path = `${dirname(interpreter)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`;
  return kind === 'venv' ? { PATH: path, VIRTUAL_ENV: prefix } : { PATH: path };
}

function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}
