/**
 * Python environments: which interpreter belongs to a site-packages directory, and which directory the user means who
 * names none. Parsing is pure; the rest reads the disk or asks an interpreter. `readEnvironment` must not be given a path
 * through our own mount in the server: only the CLI and the verifier (another process) call it.
 */
import { execFile } from 'node:child_process';
import { access, constants, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { SiteswapError } from '../util/errors.js';

export interface PythonEnvironment {
  /** Executable. */
  interpreter: string;
  prefix: string;
  kind: 'venv' | 'prefix' | 'debian';
}

const INTERPRETER_TIMEOUT_MS = 20_000;
const HINT = 'Name the directory, or activate a virtual environment.';

/** `key = value` lines; keys in lower case. */
export function parsePyvenvCfg(text: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const match = /^\s*([^=\s][^=]*?)\s*=\s*(.*?)\s*$/.exec(line);
    if (match) values.set((match[1] ?? '').toLowerCase(), match[2] ?? '');
  }
  return values;
}

/** Prefix and interpreter's version that a path of the usual shape speaks of: `PREFIX/lib/python3.11/site-packages`. */
export function parseSitePackagesPath(
  path: string,
): { prefix: string; version: string | null; kind: 'site' | 'debian' } | null {
  const parts = /^(.*)\/lib(?:64)?\/(python|pypy)(\d+(?:\.\d+)?)t?\/(site|dist)-packages\/?$/.exec(path);
  if (!parts) return null;
  const [, before = '', , version = '', folder] = parts;
  const prefix = before === '' ? '/' : before;
  // Debian: /usr/lib/python3/dist-packages is shared by all versions, /usr/local/lib/python3.11/dist-packages is pip's.
  if (folder === 'dist') {
    return { prefix: prefix.replace(/\/local$/, ''), version: version.includes('.') ? version : null, kind: 'debian' };
  }
  return { prefix, version, kind: 'site' };
}

/** The environment that this site-packages directory, or this prefix, belongs to; null when no interpreter is found. */
export async function readEnvironment(directory: string): Promise<PythonEnvironment | null> {
  const site = parseSitePackagesPath(directory);
  const prefix = site?.prefix ?? directory;
  const config = await readFile(join(prefix, 'pyvenv.cfg'), 'utf8').catch(() => null);
  const names = site?.version ? [`python${site.version}`, 'python3', 'python'] : ['python3', 'python', 'pypy3'];
  for (const name of names) {
    const interpreter = join(prefix, 'bin', name);
    if (!(await isExecutable(interpreter))) continue;
    return { interpreter, prefix, kind: config !== null ? 'venv' : site?.kind === 'debian' ? 'debian' : 'prefix' };
  }
  return null;
}

/**
 * The purelib of the active virtual environment (`VIRTUAL_ENV`, `CONDA_PREFIX`), else of the `python3` on the path.
 * Throws when there is neither.
 */
export async function defaultSitePackages(environment: NodeJS.ProcessEnv = process.env): Promise<string> {
  const prefix = environment['VIRTUAL_ENV'] || environment['CONDA_PREFIX'];
  if (prefix) {
    const found = await readEnvironment(prefix);
    if (!found) {
      throw new SiteswapError('NO_DIRECTORY', `the active environment ${prefix} has no Python interpreter`, HINT);
    }
    return purelib(found.interpreter, environment);
  }
  return purelib('python3', environment);
}

/**
 * Asks the interpreter, isolated from the user's variables and from the current directory. (`-S` would be wrong: before
 * Python 3.14 it is `site` that makes a virtual environment's prefix known.)
 */
export async function purelib(interpreter: string, environment: NodeJS.ProcessEnv = process.env): Promise<string> {
  const code = "import sysconfig; print(sysconfig.get_path('purelib'))";
  try {
    const { stdout } = await promisify(execFile)(interpreter, ['-I', '-c', code], {
      env: environment,
      timeout: INTERPRETER_TIMEOUT_MS,
    });
    const path = stdout.replace(/\n$/, '');
    if (path.startsWith('/')) return path;
    throw new Error(`it answered ${JSON.stringify(stdout)}`);
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'not found' : (error as Error).message;
    throw new SiteswapError('NO_DIRECTORY', `no site-packages directory: ${basename(interpreter)}: ${reason}`, HINT);
  }
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}
