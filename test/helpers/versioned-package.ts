/**
 * The package `pkg` in as many builds as a test wants, and readers that notice when they are shown parts of two of them.
 *
 * Every file of every build has the same size, and all of them have the same modification time where the installer
 * keeps it (`setup.py install` does): bytecode or a cached page of another build would be taken for its own.
 */
import { utimesSync } from 'node:fs';
import { join } from 'node:path';
import { writeSdist } from './sdist.js';
import { buildWheel } from './wheel.js';
import { killTree, writeScript, type MountedVenv } from './mounted-venv.js';

export const NAME = 'pkg';

export interface Build {
  version: string;
  /** Grows from build to build: who has seen one may never see an older one. */
  serial: number;
}

export function serialText(serial: number): string {
  return String(serial).padStart(6, '0');
}

function packageFiles({ version, serial }: Build, more: number): Record<string, string> {
  const constants = (name: string): string => `${name} = '${version}'\nSERIAL = '${serialText(serial)}'\n`;
  const files: Record<string, string> = {
    'pkg/__init__.py': `${constants('A')}from pkg import sub\n`,
    'pkg/sub.py': constants('B'),
    'pkg/lazy.py': constants('C'),
  };
  for (let i = 0; i < more; i++) files[`pkg/deep/part_${i}.py`] = constants('D');
  if (more > 0) files['pkg/deep/__init__.py'] = constants('D');
  return files;
}

/** `more`: how many further modules. */
export function versionedWheel(work: string, build: Build, more = 0): string {
  return buildWheel({
    name: NAME,
    version: build.version,
    files: {
      ...packageFiles(build, more),
      [`pkg-${build.version}.dist-info/serial.txt`]: serialText(build.serial),
    },
    dir: join(work, 'wheels', serialText(build.serial)),
  });
}

/** `setup.py install` leaves what was there before, metadata too: this one's own script takes it away, as pip would. */
const REMOVE_OLD = `
import glob, shutil, sysconfig
site = sysconfig.get_path('purelib')
for old in [*glob.glob(site + '/pkg-*.*-info'), *glob.glob(site + '/pkg')]:
    shutil.rmtree(old)
`;
const SAME_TIME = new Date('2020-01-01T00:00:00Z');

/** A source tree; install it with `setup.py ${SETUP_INSTALL}`. */
export function versionedSource(work: string, build: Build): string {
  const files = packageFiles(build, 0);
  const root = writeSdist({
    name: NAME,
    version: build.version,
    files,
    before: REMOVE_OLD,
    dir: join(work, 'sources', serialText(build.serial)),
  });
  for (const path of Object.keys(files)) utimesSync(join(root, path), SAME_TIME, SAME_TIME);
  return root;
}

export const PIP_INSTALL = ['install', '--no-index', '--no-deps', '--force-reinstall', '--quiet'] as const;

/** The form with an `.egg-info` directory beside the package. */
export const SETUP_INSTALL = [
  '-W',
  'ignore',
  'setup.py',
  '--quiet',
  'install',
  '--single-version-externally-managed',
  '--record',
  '/dev/null',
] as const;

/** Prints the serial that it met everywhere; exits with 3 when it met two, with 1 on any exception. */
const READER = `
import hashlib, importlib.metadata, sys
import pkg
seen = [('A', pkg.A, pkg.SERIAL), ('B', pkg.sub.B, pkg.sub.SERIAL)]
found = importlib.metadata.distribution('pkg')
serial = found.read_text('serial.txt')
seen.append(('metadata', found.version, pkg.SERIAL if serial is None else serial))
seen.append(('version()', importlib.metadata.version('pkg'), pkg.SERIAL))
for _ in range(int(sys.argv[1])):
    hashlib.sha256(b'x' * 1000000).digest()
import pkg.lazy
seen.append(('C', pkg.lazy.C, pkg.lazy.SERIAL))
if len({(version, serial) for _, version, serial in seen}) > 1:
    print('TORN', seen, file=sys.stderr)
    sys.exit(3)
print(int(pkg.SERIAL))
`;

/** Programs that import `pkg` in fresh processes, one after another, several at once, until they are stopped. */
export class Readers {
  readonly failures: string[] = [];
  readonly bySerial = new Map<number, number>();
  readonly #loops: Promise<void>[];
  readonly #script: string;
  #newest = 0;
  #running = true;

  constructor(
    private readonly mounted: MountedVenv,
    count: number,
    private readonly pythonOptions: readonly string[] = [],
  ) {
    this.#script = writeScript(mounted, 'reader.py', READER);
    this.#loops = Array.from({ length: count }, (_, index) => this.#loop(index * 3));
  }

  async stop(): Promise<void> {
    this.#running = false;
    await Promise.all(this.#loops);
  }

  get total(): number {
    return [...this.bySerial.values()].reduce((sum, count) => sum + count, 0);
  }

  /** `work`: what it does before its lazy import, in units of about a millisecond. */
  async #loop(work: number): Promise<void> {
    while (this.#running) await this.read(work);
  }

  /** One fresh process. The serial that it saw, or null after a failure. */
  async read(work = 0): Promise<number | null> {
    const newest = this.#newest;
    const args = [...this.pythonOptions, this.#script, String(work)];
    const { code, signal, stdout, stderr } = await this.mounted.venv.run(this.mounted.python, args);
    if (code !== 0) {
      this.failures.push(`${code ?? signal}: ${stderr}`);
      return null;
    }
    const serial = Number(stdout);
    this.bySerial.set(serial, (this.bySerial.get(serial) ?? 0) + 1);
    // It began after another had seen `newest`.
    if (serial < newest) this.failures.push(`build ${serial} was seen after build ${newest}`);
    this.#newest = Math.max(this.#newest, serial);
    return serial;
  }
}

/** A Python process that runs what it is sent, a piece at a time; its names stay from piece to piece. */
export class LivePython {
  #output = '';
  #ended = false;
  readonly #child;

  constructor(mounted: MountedVenv, pythonOptions: readonly string[] = []) {
    const loop = `
import sys, traceback
names = {}
for line in sys.stdin:
    try:
        result = ('ok', eval(line, names) if not line.startswith('!') else exec(eval(line[1:]), names))
    except BaseException as error:
        result = ('error', type(error).__name__ + ': ' + str(error))
    print(repr(result), flush=True)
`;
    this.#child = mounted.start(mounted.python, [...pythonOptions, '-c', loop]);
    this.#child.stdout!.setEncoding('utf8').on('data', (text: string) => (this.#output += text));
    this.#child.once('exit', () => (this.#ended = true));
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** The value of an expression, as `repr` shows it; "error …" for an exception. */
  value(expression: string): Promise<string> {
    return this.#ask(expression.replaceAll('\n', ' '));
  }

  /** Runs statements. */
  async run(code: string): Promise<string> {
    return this.#ask(`!${JSON.stringify(code)}`);
  }

  async #ask(line: string): Promise<string> {
    this.#output = '';
    this.#child.stdin!.write(`${line}\n`);
    const deadline = Date.now() + 60_000;
    while (!this.#output.includes('\n')) {
      if (this.#ended || Date.now() > deadline) throw new Error(`no answer to: ${line}`);
      await new Promise((next) => setTimeout(next, 5));
    }
    const [, kind, rest] = /^\('(ok|error)', (.*)\)\n/.exec(this.#output) ?? [];
    return kind === 'error' ? `error ${rest}` : (rest ?? this.#output);
  }

  end(): void {
    killTree(this.#child.pid!);
  }
}
