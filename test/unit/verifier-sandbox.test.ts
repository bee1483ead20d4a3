/**
 * Real processes, contained: as root with namespaces, as root where there are none, as an ordinary user by root, and as an
 * ordinary user alone, where only Landlock and the reaping of orphans are left.
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import {
  runSandboxed,
  sandboxCapabilities,
  type SandboxOptions,
  type SandboxOutcome,
} from '../../src/verifier/sandbox.js';
import { testProgram } from '../helpers/built.js';
import { ORDINARY_UID, ordinaryPython, ordinaryUserProblem } from '../helpers/private-namespace.js';
import { runProgram } from '../helpers/venv.js';

const MB = 1 << 20;
const LIMITS = { timeMs: 20_000, memoryBytes: 512 * MB, processes: 16, outputBytes: 20_000 };
const RUNNER = testProgram('run-sandboxed');

const work = mkdtempSync(join(realpathSync(tmpdir()), 'siteswap-sandbox-test-'));
chmodSync(work, 0o777);
process.env['TMPDIR'] = work;
after(() => rmSync(work, { recursive: true, force: true }));

const isRoot = process.getuid?.() === 0;
const ordinaryProblem = await ordinaryUserProblem(work);
const python = (await ordinaryPython(work)) ?? 'python3';
const ORDINARY = ['setpriv', '--reuid', `${ORDINARY_UID}`, '--regid', `${ORDINARY_UID}`, '--clear-groups', '--'];
/** As in most containers. */
const NO_NAMESPACES = ['setpriv', '--bounding-set', '-sys_admin', '--'];
const ordinary = { uid: ORDINARY_UID, gid: ORDINARY_UID };
const self = { uid: process.getuid!(), gid: process.getgid!() };

interface Setting {
  name: string;
  /** What the sandbox is started by. */
  prefix: string[];
  owner: { uid: number; gid: number };
  skip: string | false;
}

const SETTINGS: Setting[] = [
  { name: 'the own user', prefix: [], owner: self, skip: false },
  { name: 'root without namespaces', prefix: NO_NAMESPACES, owner: self, skip: isRoot ? false : 'needs root' },
  { name: 'an ordinary user, by root', prefix: [], owner: ordinary, skip: ordinaryProblem ?? false },
  { name: 'an ordinary user alone', prefix: ORDINARY, owner: ordinary, skip: ordinaryProblem ?? false },
];

type Wish = Partial<SandboxOptions['limits']> & { env?: Record<string, string> };

function optionsFor(setting: Setting, command: string[], { env, ...limits }: Wish): SandboxOptions {
  return { command, owner: setting.owner, limits: { ...LIMITS, ...limits }, env: { WORK: work, ...env } };
}

async function run(setting: Setting, command: string[], wish: Wish = {}): Promise<SandboxOutcome> {
  const options = optionsFor(setting, command, wish);
  if (setting.prefix.length === 0) return runSandboxed(options);
  const [program, ...args] = [...setting.prefix, process.execPath, RUNNER, JSON.stringify(options)];
  const { stdout, stderr } = await runProgram(program, args, {
    env: { ...process.env, TMPDIR: work },
    timeoutMs: 60_000,
  });
  assert.notEqual(stdout, '', stderr);
  return JSON.parse(stdout) as SandboxOutcome;
}

function runPython(setting: Setting, script: string, wish: Wish = {}): Promise<SandboxOutcome> {
  return run(setting, [python, '-I', '-X', 'faulthandler', '-c', script], wish);
}

/** Processes that carry it in their environment. */
function marked(mark: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(`MARK=${mark}`);
      } catch {
        return false;
      }
    });
}

async function until(condition: () => boolean, what: string): Promise<void> {
  for (const end = Date.now() + 20_000; !condition(); await new Promise((resolve) => setTimeout(resolve, 20))) {
    assert.ok(Date.now() < end, `waited in vain for ${what}`);
  }
}

let marks = 0;
const newMark = (): string => `${process.pid}-${++marks}`;
const scratches = (): string[] => readdirSync(work).filter((name) => /^siteswap-sandbox-[0-9a-f]{16}$/.test(name));

for (const setting of SETTINGS) {
  describe(setting.name, { skip: setting.skip }, () => {
    test('a command runs: its code, its output, its directory, which is gone afterwards', async () => {
      const outcome = await runPython(
        setting,
        `import os, stat, sys
print(os.getuid(), os.getgid(), os.getgroups(), stat.S_IMODE(os.stat('.').st_mode) == 0o700)
print(os.getcwd() == os.environ['HOME'] == os.environ['TMPDIR'], sys.stdin.read() == '')
print(sorted(os.listdir('/proc/self/fd'))[:4], os.readlink(f'/proc/{os.getpid()}/exe') == os.readlink('/proc/self/exe'))
sys.stdout.flush(); open('/dev/stderr', 'w').write('told\\n')
os.makedirs('a/' * 300)
os.makedirs('locked/inside'); os.symlink(os.environ['WORK'], 'out'); os.chmod('locked', 0)
sys.exit(7)`,
      );
      const { uid, gid } = setting.owner;
      const groups = uid === self.uid && !isRoot ? JSON.stringify(process.getgroups!()).replaceAll(',', ', ') : '[]';
      assert.equal(
        outcome.output,
        [`${uid} ${gid} ${groups} True`, 'True True', `['0', '1', '2', '3'] True`, 'told'].join('\n'),
      );
      assert.deepEqual([outcome.kind, outcome.code, outcome.leftovers], ['exited', 7, 0]);
      assert.equal(outcome.contained, true);
      assert.deepEqual(scratches(), []);
      assert.ok(existsSync(work));
    });

    test('it changes nothing outside', async () => {
      const kept = join(work, `kept-${newMark()}`);
      writeFileSync(kept, 'as it was', { mode: 0o666 });
      chmodSync(kept, 0o666);
      const outcome = await runPython(
        setting,
        `import os
def refused(name, action):
    try: action()
    except OSError as error: print(name, error.errno in (1, 13, 18, 30))
    else: print(name, 'done')
kept = ${JSON.stringify(kept)}
refused('write', lambda: open(kept, 'w'))
refused('append', lambda: open(kept, 'a'))
refused('truncate', lambda: os.truncate(kept, 0))
refused('new', lambda: open(kept + '.new', 'w'))
refused('directory', lambda: os.mkdir(kept + '.d'))
refused('link', lambda: os.link(kept, kept + '.link'))
refused('symlink', lambda: os.symlink('x', kept + '.link'))
refused('unlink', lambda: os.unlink(kept))
refused('rename', lambda: os.rename(kept, 'here'))
open('own', 'w').write('x'); os.mkdir('d'); os.rename('own', 'd/own'); os.unlink('d/own')
open('/dev/null', 'w').write('x')
import multiprocessing; multiprocessing.Lock()`,
      );
      const each = ['write', 'append', 'truncate', 'new', 'directory', 'link', 'symlink', 'unlink', 'rename'];
      assert.equal(outcome.output, each.map((name) => `${name} True`).join('\n'));
      assert.equal(outcome.code, 0);
      assert.equal(readFileSync(kept, 'utf8'), 'as it was');
      assert.deepEqual(
        readdirSync(work).filter((name) => name.startsWith('kept-') && name.includes('.')),
        [],
      );
    });

    test('it signals nobody outside', async () => {
      const outcome = await runPython(
        setting,
        `import os, signal
pid = os.getppid()
for target in (pid, -1):
    try: os.kill(target, signal.SIGKILL)
    except OSError as error: print(error.errno in (1, 3))
    else: print('sent', target)`,
      );
      // Of a namespace's first process and of all processes there is nobody else to be signalled.
      assert.match(outcome.output, /^(True\n(True|sent -1)|sent \d+\n(True|sent -1))$/);
      assert.deepEqual([outcome.kind, outcome.code], ['exited', 0]);
    });

    test('a daemon does not outlive it', async () => {
      const mark = newMark();
      const outcome = await runPython(
        setting,
        `import os, time
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(w, b'x')
        time.sleep(1000)
    os._exit(0)
os.read(r, 1)`,
        { env: { MARK: mark } },
      );
      assert.deepEqual([outcome.kind, outcome.code, outcome.leftovers], ['exited', 0, 1]);
      assert.deepEqual(marked(mark), []);
    });

    test('time is limited, and it is told where it was spent', async () => {
      const mark = newMark();
      const wish = { timeMs: 1000, env: { MARK: mark } };
      const outcome = await runPython(setting, 'import os, time\nos.fork()\ntime.sleep(1000)', wish);
      assert.equal(outcome.kind, 'timed-out');
      assert.match(outcome.output, /Fatal Python error: Aborted[^]*File "<string>", line 3/);
      assert.deepEqual(marked(mark), []);
    });

    test('memory is limited, over all processes', async () => {
      const script = `import os, time
for _ in range(3):
    if os.fork() == 0: break
kept = bytearray(os.urandom(1)) * (${60 * MB})
time.sleep(1000)`;
      const outcome = await runPython(setting, script, { memoryBytes: 150 * MB });
      assert.equal(outcome.kind, 'too-much-memory');
    });

    test('memory that processes share counts once', async () => {
      const script = `import os, time
kept = bytearray(os.urandom(1)) * (${100 * MB})
for _ in range(5):
    if os.fork() == 0:
        time.sleep(0.3)
        os._exit(0)
for _ in range(5): os.wait()`;
      const outcome = await runPython(setting, script, { memoryBytes: 300 * MB });
      assert.deepEqual([outcome.kind, outcome.code], ['exited', 0]);
    });

    test('a fork bomb', async () => {
      const mark = newMark();
      const script = 'import os\nwhile True:\n    try: os.fork()\n    except OSError: pass';
      const outcome = await runPython(setting, script, { processes: 8, env: { MARK: mark } });
      assert.equal(outcome.kind, 'too-many-processes');
      assert.deepEqual(marked(mark), []);
    });

    test('output is cut in the middle', async () => {
      const script = `print('first'); print('x' * ${10 * MB}); print('last')`;
      const { output } = await runPython(setting, script, { outputBytes: 1000 });
      assert.match(output, /^first\nx+\n\[\.\.\. \d+ bytes left out \.\.\.\]\nx+\nlast$/);
      assert.ok(output.length < 1100);
    });

    test('signals, and what is no program', async () => {
      const killed = await runPython(setting, 'import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)');
      assert.deepEqual([killed.kind, killed.code, killed.signal], ['signalled', null, 'SIGSEGV']);
      const missing = await run(setting, ['/nowhere/python']);
      assert.deepEqual(
        [missing.kind, missing.output],
        ['failed-to-start', '/nowhere/python: No such file or directory'],
      );
    });

    for (const victim of ['supervisor', 'wrapper'] as const) {
      test(`the ${victim} is killed: everything ends, and the directory is gone`, async () => {
        const mark = newMark();
        const script = `import os, time
for _ in range(3):
    if os.fork() == 0: os.setsid()
open('file', 'w').write('x')
time.sleep(1000)`;
        const options = optionsFor(setting, [python, '-c', script], { env: { MARK: mark } });
        const [program, ...args] = [...setting.prefix, process.execPath, RUNNER];
        const wrapper = spawn(program, [...args, JSON.stringify(options)], {
          env: { ...process.env, TMPDIR: work },
          stdio: ['ignore', 'ignore', 'pipe'],
        });
        const pid = await sandboxPid(wrapper);
        await until(() => marked(mark).length >= 8, 'the processes');
        process.kill(victim === 'wrapper' ? wrapper.pid! : pid, 'SIGKILL');
        await until(() => marked(mark).length === 0, 'their end');
        await until(() => scratches().length === 0, 'the removal of the directory');
      });
    }
  });
}

async function sandboxPid(wrapper: ChildProcess): Promise<number> {
  let text = '';
  for await (const chunk of wrapper.stderr!) {
    text += chunk;
    const found = /sandbox (\d+)\n/.exec(text);
    if (found) return Number(found[1]);
  }
  throw new Error(`the sandbox did not start: ${text}`);
}

test("an ordinary user reads no file that is root's alone", { skip: ordinaryProblem ?? false }, async () => {
  const secret = join(work, 'secret');
  writeFileSync(secret, 'secret', { mode: 0o600 });
  const [, , byRoot, alone] = SETTINGS;
  for (const setting of [byRoot!, alone!]) {
    const outcome = await runPython(setting, `open(${JSON.stringify(secret)})`);
    assert.match(outcome.output, /PermissionError: \[Errno 13\]/);
    assert.equal(outcome.code, 1);
  }
  const asRoot = await runPython(SETTINGS[0]!, `print(open(${JSON.stringify(secret)}).read())`);
  assert.equal(asRoot.output, 'secret');
});

test('root gets no other rights back, by no program', { skip: isRoot ? false : 'needs root' }, async () => {
  const script = `print([line.split()[1] for line in open('/proc/self/status') if line.startswith('Cap')])
import os
for name, action in {
    'sysctl': lambda: open('/proc/sys/kernel/hostname', 'w').write('x'),
    'chown': lambda: os.chown(os.environ['WORK'], 1, 1),
    'chmod': lambda: os.chmod('/', 0o755),
}.items():
    try: action()
    except OSError: pass
    else: print(name)`;
  for (const setting of SETTINGS.slice(0, 2)) {
    const { output } = await runPython(setting, script);
    const [capabilities, ...done] = output.split('\n');
    const kept = '0000000000000004';
    assert.equal(capabilities, `['0000000000000000', '${kept}', '${kept}', '${kept}', '0000000000000000']`);
    // Landlock does not speak of modes: see native/sandbox/landlock.h.
    assert.deepEqual(done, setting.prefix.length === 0 ? [] : ['chmod']);
  }
});

test('the command starts when the caller says so, and never if it refuses', async () => {
  const options = optionsFor(SETTINGS[0]!, ['/bin/true'], {});
  let told = 0;
  const outcome = await runSandboxed({
    ...options,
    onReady: async (pid) => {
      assert.match(readFileSync(`/proc/${pid}/comm`, 'utf8'), /^siteswap-sandbo/);
      assert.deepEqual(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8'), '');
      told = pid;
    },
  });
  assert.equal(outcome.code, 0);
  assert.throws(() => process.kill(told, 0));
  await assert.rejects(runSandboxed({ ...options, onReady: () => Promise.reject(new Error('not now')) }), /not now/);
  assert.deepEqual(scratches(), []);
});

test('what this host can do', () => {
  const capabilities = sandboxCapabilities();
  assert.ok(capabilities !== null && (capabilities.landlock === null || capabilities.landlock >= 1));
});
