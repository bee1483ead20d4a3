/**
 * The tree that is measured: a real environment's `site-packages`, made once and kept in the cache directory.
 *
 * With an index at hand it has numpy, pandas, scipy, django, matplotlib and sympy, and what they need. Without one, and
 * with --quick, it is made here, and the results say so.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildWheel } from '../helpers/wheel.js';
import { run } from './program.js';

const PACKAGES = ['numpy', 'pandas', 'scipy', 'django', 'matplotlib', 'sympy'];
/** Beyond the top level, so that about 1,700 modules are loaded, as a program that uses all of it loads. */
const IMPORTS = [
  ...PACKAGES,
  'matplotlib.pyplot',
  'scipy.stats',
  'scipy.optimize',
  'scipy.signal',
  'django.contrib.admin',
  'django.db.models',
  'django.test',
];
const BIG_BYTES = { full: 1 << 30, quick: 64 << 20 };
export const BIG_FILE = 'bench-big.bin';

export interface Stack {
  kind: 'real' | 'synthetic';
  /** Of a site-packages directory. */
  path: string;
  imports: string[];
  /** A large package of it, for copying, renaming and compiling. */
  bigPackage: string;
  versions: string[];
  /** Of `path`. */
  entries: number;
}

export interface Materials {
  stack: Stack;
  bigFile: string;
  /** 1,500 files in one wheel; 30 wheels of 50. */
  wheel: string;
  manyWheels: { directory: string; names: string[] };
  archive: string;
  /** Null: can't be had. */
  uv: string | null;
  /** Of the measured Python, without any environment. */
  interpreter: string;
  version: string;
}

type Say = (text: string) => void;

export async function makeMaterials(cache: string, python: string, quick: boolean, say: Say): Promise<Materials> {
  mkdirSync(cache, { recursive: true });
  const asked = ['-I', '-S', '-c', 'import sys; print(sys.version.split()[0]); print(sys._base_executable)'];
  const [version = '', interpreter = ''] = (await run([python, ...asked])).stdout.trim().split('\n');
  const suffix = `${version}${quick ? '-quick' : ''}`;
  const stack = await makeStack(join(cache, `stack-${suffix}`), interpreter, quick, say);
  const archive = join(cache, `${stack.bigPackage}-${suffix}.tar`);
  if (!existsSync(archive)) await run(['tar', '-C', stack.path, '-cf', archive, stack.bigPackage]);
  return {
    stack,
    archive,
    interpreter,
    version,
    bigFile: await makeBigFile(cache, quick),
    wheel: makeWheel(join(cache, 'wheels'), 'bench-large', 60, 25),
    manyWheels: makeManyWheels(join(cache, 'wheels-30')),
    uv: quick ? null : await makeUv(join(cache, 'tools'), interpreter, say),
  };
}

async function makeStack(home: string, python: string, quick: boolean, say: Say): Promise<Stack> {
  const record = join(home, 'stack.json');
  if (existsSync(record)) return JSON.parse(readFileSync(record, 'utf8')) as Stack;
  rmSync(home, { recursive: true, force: true });
  await run([python, '-m', 'venv', home]);
  const interpreter = join(home, 'bin/python');
  const path = join(
    home,
    'lib',
    readdirSync(join(home, 'lib')).find((name) => name.startsWith('python'))!,
    'site-packages',
  );
  let stack: Stack | null = null;
  if (!quick) {
    say(`installing ${PACKAGES.join(', ')} (once)`);
    try {
      await run([interpreter, '-m', 'pip', 'install', '-q', ...PACKAGES]);
      const versions = (await run([interpreter, '-m', 'pip', 'freeze'])).stdout.trim().split('\n');
      stack = { kind: 'real', path, imports: IMPORTS, bigPackage: 'sympy', versions, entries: 0 };
    } catch (error) {
      say(`WARNING: no real packages (${(error as Error).message.split('\n')[0]}): a synthetic tree is measured`);
    }
  }
  if (stack === null) {
    writeSynthetic(join(path, 'synthetic'), quick ? 300 : 1700);
    await run([interpreter, '-m', 'compileall', '-q', path]);
    const versions = ['synthetic'];
    stack = { kind: 'synthetic', path, imports: ['synthetic'], bigPackage: 'synthetic', versions, entries: 0 };
  }
  stack.entries = Number((await run(['sh', '-c', 'find "$1" | wc -l', 'sh', path])).stdout);
  writeFileSync(record, JSON.stringify(stack));
  return stack;
}

/** A package whose import imports all of its modules, 20 in each subpackage. */
function writeSynthetic(top: string, modules: number): void {
  const lines: string[] = [];
  for (let index = 0; index < modules; ++index) {
    const group = `group_${Math.floor(index / 20)}`;
    if (index % 20 === 0) {
      mkdirSync(join(top, group), { recursive: true });
      writeFileSync(join(top, group, '__init__.py'), '');
    }
    writeFileSync(join(top, group, `module_${index}.py`), source(index));
    lines.push(`import synthetic.${group}.module_${index}`);
  }
  writeFileSync(join(top, '__init__.py'), `${lines.join('\n')}\n`);
}

function source(seed: number): string {
  const functions = Array.from({ length: 12 }, (_, index) => [
    `def function_${index}(first, second=${seed}):`,
    `    """Adds ${index} to what it is given, as any other function of module ${seed} does."""`,
    `    return [first + second + ${index} for _ in range(${index})]`,
    '',
  ]);
  return functions.flat().join('\n');
}

function makeWheel(dir: string, name: string, folders: number, files: number): string {
  const wheel = join(dir, `${name.replaceAll('-', '_')}-1.0-py3-none-any.whl`);
  if (existsSync(wheel)) return wheel;
  const contents: Record<string, string> = {};
  const top = name.replaceAll('-', '_');
  for (let folder = 0; folder < folders; ++folder) {
    for (let file = 0; file < files; ++file) {
      const path = file === 0 ? '__init__' : `module_${file}`;
      contents[`${top}/part_${folder}/${path}.py`] = source(folder * files + file);
    }
  }
  contents[`${top}/__init__.py`] = '';
  return buildWheel({ name, version: '1.0', files: contents, dir });
}

function makeManyWheels(directory: string): Materials['manyWheels'] {
  const names = Array.from({ length: 30 }, (_, index) => `bench-small-${index}`);
  for (const name of names) makeWheel(directory, name, 5, 10);
  return { directory, names };
}

async function makeBigFile(cache: string, quick: boolean): Promise<string> {
  const size = quick ? BIG_BYTES.quick : BIG_BYTES.full;
  const path = join(cache, `big-${size >> 20}.bin`);
  if (!existsSync(path)) {
    await run(['sh', '-c', 'head -c "$2" /dev/urandom > "$1.part" && mv "$1.part" "$1"', 'sh', path, String(size)]);
  }
  return path;
}

async function makeUv(home: string, python: string, say: Say): Promise<string | null> {
  const uv = join(home, 'bin/uv');
  if (existsSync(uv)) return uv;
  try {
    await run([python, '-m', 'venv', home]);
    await run([join(home, 'bin/python'), '-m', 'pip', 'install', '-q', 'uv']);
    return uv;
  } catch (error) {
    say(`WARNING: uv can't be had (${(error as Error).message.split('\n')[0]}): its work is left out`);
    return null;
  }
}
