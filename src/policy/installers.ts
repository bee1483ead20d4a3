/**
 * Who looks like an installer: a table of names, and the ways in which a Python program can be started.
 *
 * Pure. A false positive only means that the transaction's root is a higher process than needed; a miss means that the
 * writer itself becomes the root, which commits too early when several processes work on one install.
 */

export interface Invocation {
  argv: readonly string[];
  exe: string | null;
  comm: string;
}

interface InstallerRow {
  /** What is reported and logged. */
  name: string;
  /** Base name of the program, or of the script that an interpreter runs. */
  program: RegExp;
  /** As in `python -m MODULE`. */
  module?: RegExp;
  /** Only with one of these as its first word: programs that mostly do other things. */
  commands?: readonly string[];
  /** Not with one of these: `poetry shell` and `uv run` start somebody else's program, which may run for hours. */
  exceptCommands?: readonly string[];
  /** Native programs and those with interpreters of their own, recognised by executable and comm too. */
  binary?: true;
}

const RUNNERS = ['run', 'shell', 'exec'];

const INSTALLERS: readonly InstallerRow[] = [
  { name: 'pip', program: /^pip(\d+(\.\d+)*)?$/, module: /^pip(\._internal.*)?$/ },
  { name: 'uv', program: /^uv$/, module: /^uv$/, binary: true, exceptCommands: RUNNERS },
  { name: 'poetry', program: /^poetry$/, module: /^poetry$/, exceptCommands: RUNNERS },
  { name: 'pdm', program: /^pdm$/, module: /^pdm$/, exceptCommands: RUNNERS },
  { name: 'hatch', program: /^hatch$/, module: /^hatch$/, binary: true, exceptCommands: RUNNERS },
  { name: 'flit', program: /^flit$/, module: /^flit$/ },
  { name: 'rye', program: /^rye$/, binary: true, exceptCommands: RUNNERS },
  { name: 'pixi', program: /^pixi$/, binary: true, exceptCommands: RUNNERS },
  { name: 'pipx', program: /^pipx$/, module: /^pipx$/, exceptCommands: RUNNERS },
  { name: 'pipenv', program: /^pipenv$/, module: /^pipenv$/, exceptCommands: RUNNERS },
  { name: 'pip-sync', program: /^pip-sync$/ },
  { name: 'conda', program: /^conda(\.exe)?$/, module: /^conda$/, binary: true, exceptCommands: RUNNERS },
  { name: 'mamba', program: /^mamba$/, module: /^mamba$/, binary: true, exceptCommands: RUNNERS },
  { name: 'micromamba', program: /^micromamba$/, binary: true, exceptCommands: RUNNERS },
  { name: 'easy_install', program: /^easy_install(-?\d+(\.\d+)*)?$/, module: /^easy_install$/ },
  { name: 'setup.py', program: /^setup\.py$/ },
  { name: 'ensurepip', program: /^ensurepip$/, module: /^ensurepip(\._uninstall)?$/ },
  { name: 'virtualenv', program: /^virtualenv$/, module: /^(virtualenv|venv)$/ },
  { name: 'installer', program: /^installer$/, module: /^installer$/ },
  { name: 'buildout', program: /^buildout$/ },
  { name: 'maturin', program: /^maturin$/, module: /^maturin$/, commands: ['develop', 'dev'], binary: true },
  { name: 'meson', program: /^meson(\.py)?$/, commands: ['install'] },
  { name: 'spack', program: /^spack$/ },
  { name: 'apt', program: /^(apt|apt-get|aptitude|unattended-upgrades?)$/, binary: true },
  { name: 'dpkg', program: /^(dpkg|dpkg-deb|dpkg-unpack)$/, binary: true },
  { name: 'rpm', program: /^rpm$/, binary: true },
  { name: 'dnf', program: /^(micro)?dnf[-\d]*$/, binary: true },
  { name: 'yum', program: /^yum$/, binary: true },
  { name: 'zypper', program: /^zypper$/, binary: true },
  { name: 'pacman', program: /^pacman$/, binary: true },
  { name: 'apk', program: /^apk$/, binary: true },
];

const PYTHON = /^(python|pypy)(\d+(\.\d+)*)?[a-z]*(-(dbg|intel64))?$/;

/** Options of the interpreter that take the next word when nothing follows the letter. */
const OPTIONS_WITH_VALUE = new Set(['W', 'X', 'Q']);

function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

export function isPython(program: string): boolean {
  return PYTHON.test(baseName(program));
}

/** What an interpreter runs: reads its options up to `-m`, `-c`, or the script. */
export function pythonTarget(
  argv: readonly string[],
): { kind: 'module' | 'script'; name: string; args: readonly string[] } | { kind: 'code'; text: string } | null {
  for (let i = 1; i < argv.length; i++) {
    const word = argv[i] ?? '';
    if (word === '--') return script(argv, i + 1);
    if (word === '-' || !word.startsWith('-')) return script(argv, i);
    if (word.startsWith('--')) {
      if (word === '--check-hash-based-pycs') i++;
      continue;
    }
    // Short options may be put together: -Im pip, -IBWignore.
    for (let at = 1; at < word.length; at++) {
      const letter = word.charAt(at);
      const rest = word.slice(at + 1);
      if (letter === 'm' || letter === 'c') {
        const value = rest || argv[i + 1];
        if (value === undefined) return null;
        if (letter === 'c') return { kind: 'code', text: value };
        return { kind: 'module', name: value, args: argv.slice(rest ? i + 1 : i + 2) };
      }
      if (OPTIONS_WITH_VALUE.has(letter)) {
        if (!rest) i++;
        break;
      }
    }
  }
  return null;
}

function script(argv: readonly string[], at: number): { kind: 'script'; name: string; args: readonly string[] } | null {
  const name = argv[at];
  return name === undefined || name === '-' ? null : { kind: 'script', name, args: argv.slice(at + 1) };
}

function fits(row: InstallerRow, args: readonly string[]): boolean {
  const command = args.find((word) => !word.startsWith('-')) ?? '';
  if (row.exceptCommands?.includes(command)) return false;
  return !row.commands || row.commands.includes(command);
}

function byProgram(path: string, args: readonly string[]): string | null {
  // `python …/site-packages/pip install` and `python pip-24.0-py3-none-any.whl/pip install` run the folder itself.
  const folder = /(?:^|\/)([^/]+)\/__main__\.py$/.exec(path);
  const program = folder ? (folder[1] ?? '') : baseName(path.replace(/\/+$/, ''));
  return INSTALLERS.find((row) => row.program.test(program) && fits(row, args))?.name ?? null;
}

/** pip and build front ends run `setup.py` through `python -c`, with its name in the text. */
function byCode(text: string): string | null {
  if (/\bsetup\.py\b/.test(text) && /setuptools|exec\(|distutils/.test(text)) return 'setup.py';
  // venv and virtualenv.
  return /\bensurepip\b/.test(text) ? 'ensurepip' : null;
}

/** The installer's name, or null. */
export function looksLikeInstaller(process: Invocation): string | null {
  const { argv, exe, comm } = process;
  const program = argv[0] ?? '';
  if (isPython(program) || (exe !== null && isPython(exe))) {
    const target = pythonTarget(argv);
    if (target?.kind === 'code') return byCode(target.text);
    if (target?.kind === 'module') {
      return INSTALLERS.find((row) => row.module?.test(target.name) && fits(row, target.args))?.name ?? null;
    }
    if (target?.kind === 'script') {
      const found = byProgram(target.name, target.args);
      if (found) return found;
    }
    // A program that names itself: argv[0] is `pip` although the executable is python.
    return isPython(program) ? null : byProgram(program, argv.slice(1));
  }
  const byName = byProgram(program, argv.slice(1));
  if (byName) return byName;
  // A script run by another interpreter (`sh /usr/bin/apt-wrapper`, `perl …`): the script's name counts.
  const second = argv[1];
  if (second?.startsWith('/') && /^(ba|da|z|k)?sh$|^perl$/.test(baseName(program))) {
    const found = byProgram(second, argv.slice(2));
    if (found) return found;
  }
  const names = [exe === null ? null : baseName(exe.replace(/ \(deleted\)$/, '')), comm];
  const row = INSTALLERS.find(
    ({ binary, program: pattern }) => binary && names.some((name) => name !== null && pattern.test(name)),
  );
  return row && fits(row, argv.slice(1)) ? row.name : null;
}
