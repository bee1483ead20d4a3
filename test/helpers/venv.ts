/**
 * Makes virtual environments quickly, and runs their programs offline.
 *
 * `ensurepip` is most of the time of `-m venv` (measured on 2 CPUs: 3.7 s with it, 0.5 to 1 s this way after the first).
 * So an environment is made `--without-pip`, and the packages of a template that is made once per test run (see
 * makeTemplate) are copied in: their RECORDs are relative and stay right; the scripts in bin/ get the new interpreter's path.
 */
import { execFile, execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { RUN_MARK } from './leftovers.js';

export interface Venv {
  prefix: string;
  sitePackages: string;
  python: string;
  pip: string;
  /** The environment to run its programs with: offline, bytecode written as usual. */
  env: NodeJS.ProcessEnv;
  run(program: string, args: readonly string[], options?: RunOptions): Promise<RunResult>;
}

export interface RunOptions {
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  timeoutMs?: number;
}

export interface RunResult {
  /** Null when killed by a signal. */
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

const RUN_TIMEOUT_MS = 120_000;
const UNWANTED = /^(PYTHON|PIP_|UV_|VIRTUAL_ENV$|CONDA_|__PYVENV)/;

type Template = Pick<Venv, 'prefix' | 'sitePackages'>;

let template: Template | null = null;

export function makeVenv(prefix: string, { pip = true }: { pip?: boolean } = {}): Venv {
  const venv = createBare(resolve(prefix));
  if (!pip) return venv;
  template ??= makeTemplate();
  cpSync(template.sitePackages, venv.sitePackages, { recursive: true, preserveTimestamps: true });
  for (const name of readdirSync(join(template.prefix, 'bin'))) {
    if (!/^(pip|easy_install|wheel)/.test(name)) continue;
    const source = join(template.prefix, 'bin', name);
    const script = readFileSync(source, 'utf8').replaceAll(template.prefix, venv.prefix);
    writeFileSync(join(venv.prefix, 'bin', name), script, { mode: statSync(source).mode });
  }
  return venv;
}

/**
 * In a run of test/run.ts, which has a temporary directory of its own, the first test file that needs it leaves it there
 * for the others; the rename is what makes it theirs, so that nobody copies half of one. By hand it is gone at the end.
 */
function makeTemplate(): Template {
  const shared = process.env[RUN_MARK] === undefined ? null : join(tmpdir(), 'venv-template.json');
  if (shared !== null && existsSync(shared)) {
    return JSON.parse(readFileSync(shared, 'utf8')) as Template;
  }
  const folder = mkdtempSync(join(tmpdir(), 'siteswap-venv-template-'));
  const venv = createBare(join(folder, 'venv'));
  execFileSync(venv.python, ['-m', 'ensurepip', '--upgrade', '--default-pip'], { env: venv.env, stdio: 'pipe' });
  if (shared === null) process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  else {
    writeFileSync(join(folder, 'made'), JSON.stringify({ prefix: venv.prefix, sitePackages: venv.sitePackages }));
    renameSync(join(folder, 'made'), shared);
  }
  return venv;
}

function createBare(prefix: string): Venv {
  execFileSync('python3', ['-m', 'venv', '--without-pip', prefix], { env: cleanEnvironment(), stdio: 'pipe' });
  const library = readdirSync(join(prefix, 'lib')).find((name) => /^(python|pypy)\d/.test(name));
  if (library === undefined) throw new Error(`${prefix}/lib has no Python library`);
  const bin = join(prefix, 'bin');
  const env = { ...cleanEnvironment(), VIRTUAL_ENV: prefix, PATH: `${bin}:${process.env['PATH'] ?? ''}` };
  return {
    prefix,
    sitePackages: join(prefix, 'lib', library, 'site-packages'),
    python: join(bin, 'python'),
    pip: join(bin, 'pip'),
    env,
    run: (program, args, options = {}) =>
      runProgram(program.includes('/') ? program : join(bin, program), args, {
        ...options,
        env: { ...env, ...options.env },
      }),
  };
}

/** Without what would change how Python and pip behave; no index is asked. */
export function cleanEnvironment(): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !UNWANTED.test(name));
  return {
    ...Object.fromEntries(kept),
    PIP_NO_INDEX: '1',
    PIP_DISABLE_PIP_VERSION_CHECK: '1',
    PIP_NO_INPUT: '1',
    PIP_CONFIG_FILE: '/dev/null',
    PIP_ROOT_USER_ACTION: 'ignore',
  };
}

/** Never rejects for how the program ended, only when it could not be started. */
export function runProgram(program: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const { cwd, env, timeoutMs = RUN_TIMEOUT_MS } = options;
  return new Promise((done, fail) => {
    const settings = { cwd, env, timeout: timeoutMs, killSignal: 'SIGKILL' as const, maxBuffer: 64 << 20 };
    execFile(program, args, settings, (error, stdout, stderr) => {
      if (error && typeof error.code === 'string') return fail(error);
      const code = typeof error?.code === 'number' ? error.code : null;
      done({ code: error ? code : 0, signal: error?.signal ?? null, stdout, stderr });
    });
  });
}
