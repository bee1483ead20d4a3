/**
 * Who a reader is, where numbers of processes mislead: a number that is given out again, threads, other pid namespaces.
 * (Forks, double forks and programs replaced in place: pins.test.ts.)
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { ControlClient } from '../../src/daemon/control-client.js';
import { MountedSite, needsFuse, notRun, SITESWAP } from '../helpers/mounted-site.js';
import { mountedVenv, until, writeScript, type MountedVenv } from '../helpers/mounted-venv.js';
import { namespaceProblem } from '../helpers/private-namespace.js';
import { LivePython, PIP_INSTALL, versionedWheel } from '../helpers/versioned-package.js';
import { runProgram } from '../helpers/venv.js';

const TIMEOUT_MS = 2 * 60_000;
const NEXT_PID = '/proc/sys/kernel/ns_last_pid';

async function install(mounted: MountedVenv, serial: number): Promise<void> {
  const version = `${serial}.0.0`;
  await mounted.must('pip', ...PIP_INSTALL, versionedWheel(mounted.work, { version, serial }));
  await mounted.settle();
}

/**
 * Forks children that list the directory and stay. Told to go on, it ends one after the other and gives its number to
 * a child of its own at once, which looks: by a path, or by listing. Prints what each of these saw.
 */
const REUSE = `
import json, os, signal, sys
site, last_pid = sys.argv[1:]
def by_path():
    with open(f'{site}/pkg/__init__.py') as file: return file.read()[5:10]
def by_listing():
    return next(n for n in os.listdir(site) if n.startswith('pkg-'))[4:9]
def child(work, *arguments):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(write, work(*arguments).encode())
        signal.pause()
    os.close(write)
    return pid, read
def end(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
old = [child(by_listing) for _ in range(20)]
print(json.dumps([os.read(read, 100).decode() for _, read in old]), flush=True)
sys.stdin.readline()
found = []
for index, (number, _) in enumerate(old):
    end(number)
    for attempt in range(50):
        with open(last_pid, 'w') as file: file.write(str(number - 1))
        pid, read = child([by_path, by_listing][index % 2])
        seen = os.read(read, 100).decode()
        os.close(read)
        if pid == number:
            found.append(seen)
            break
        end(pid)
    if pid == number: end(pid)
print(json.dumps(found), flush=True)
`;

test('the number of a pinned process that has ended is another process', { timeout: TIMEOUT_MS }, async (t) => {
  if (process.geteuid?.() !== 0 || !existsSync(NEXT_PID)) return notRun(t, 'only root may choose numbers of processes');
  const mounted = await mountedVenv(t);
  await install(mounted, 1);
  const child = mounted.start(mounted.python, ['-S', writeScript(mounted, 'reuse.py', REUSE), mounted.site, NEXT_PID]);
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  const next = async (): Promise<string[]> => JSON.parse((await lines.next()).value as string) as string[];
  assert.deepEqual(new Set(await next()), new Set(['1.0.0']));
  await install(mounted, 2);
  assert.equal((await mounted.status()).pins.filter(({ generation }) => generation === 1).length, 20);
  child.stdin!.write('go on\n');
  const found = await next();
  assert.ok(found.length > 0, 'no number could be had again');
  assert.deepEqual(new Set(found), new Set(['2.0.0']), mounted.serverLog());
  t.diagnostic(`${found.length} numbers of processes were given out again`);
  child.stdin!.end();
  await mounted.unmount();
});

test('all threads of a process see what one of them has listed', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t);
  await install(mounted, 1);
  // -S: nothing of it lists the directory but the thread.
  const threads = `
import importlib, os, sys, threading
def in_thread(work):
    result = []
    thread = threading.Thread(target=lambda: result.append(work()))
    thread.start(); thread.join()
    return result[0]
def version(): return open(f'{SITE}/pkg/__init__.py').read()[5:10]
def listed(): return sorted(n for n in os.listdir(SITE) if n.startswith('pkg-'))
SITE = ${JSON.stringify(mounted.site)}
`;
  const live = new LivePython(mounted, ['-S']);
  t.after(() => live.end());
  assert.equal(await live.run(threads), 'None');
  assert.equal(await live.value('in_thread(listed)'), "['pkg-1.0.0.dist-info']");
  await install(mounted, 2);
  for (const look of ['version()', 'in_thread(version)']) assert.equal(await live.value(look), "'1.0.0'", look);
  for (const look of ['listed()', 'in_thread(listed)']) {
    assert.equal(await live.value(look), "['pkg-1.0.0.dist-info']", look);
  }
  const { pins } = await mounted.status();
  assert.deepEqual(
    pins.filter(({ generation }) => generation === 1).map(({ pid, reason }) => [pid, reason]),
    [[live.pid, 'listed']],
  );
  live.end();
  await mounted.unmount();
});

test('a reader in a pid namespace below the server’s is pinned as any other', { timeout: TIMEOUT_MS }, async (t) => {
  const problem = namespaceProblem();
  if (problem !== null) return notRun(t, problem);
  const mounted = await mountedVenv(t);
  await install(mounted, 1);
  const look =
    'import importlib, os, sys; import pkg; print(os.getpid(), pkg.A, flush=True); sys.stdin.readline(); import pkg.lazy; print(pkg.lazy.C)';
  const inside = ['--pid', '--fork', '--mount-proc', '--kill-child', mounted.python, '-c', look];
  const child = mounted.start('/usr/bin/unshare', inside);
  const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  assert.equal((await lines.next()).value, '1 1.0.0');
  await install(mounted, 2);
  const pinned = (await mounted.status()).pins.filter(({ generation }) => generation === 1);
  assert.equal(pinned.length, 1);
  assert.ok(pinned[0]!.pid > 1, 'the number that it has for the server');
  child.stdin!.end('\n');
  assert.equal((await lines.next()).value, '1.0.0');
  await mounted.unmount();
});

/** One look from outside, while the test's own namespace never had the mount. */
async function outside(serverPid: number, script: string): Promise<string> {
  const words = [`--mount=/proc/${serverPid}/ns/mnt`, '--', 'sh', '-c', script];
  const { stdout, stderr } = await runProgram('nsenter', words, { timeoutMs: 20_000, cwd: '/' });
  return stdout + stderr;
}

test(
  'a process that the server can’t see (pid 0) has HEAD, unpinned, and may not write',
  { timeout: TIMEOUT_MS, ...needsFuse },
  async (t) => {
    const problem = namespaceProblem();
    if (problem !== null) return notRun(t, problem);
    // Before the directory is looked after: hooks run in this order.
    let server: ChildProcess | null = null;
    t.after(async () => {
      if (server === null || server.exitCode !== null || server.signalCode !== null) return;
      const ended = new Promise((resolve) => server!.once('exit', resolve));
      server.kill('SIGKILL');
      await ended;
    });
    const site = MountedSite.make(t);
    const alone = ['--mount', '--propagation', 'private', '--pid', '--fork', '--mount-proc', '--kill-child'];
    const command = [...SITESWAP, 'mount', '--foreground', site.dir];
    server = spawn('unshare', [...alone, ...command], { stdio: 'ignore', cwd: '/' });
    await until('it serves', () => site.daemons().server.length === 1 && existsSync(join(site.store, 'control.sock')));
    let daemon: ControlClient | null = null;
    await until('it answers', async () => {
      daemon = await ControlClient.connect(site.store).catch(() => null);
      return daemon !== null;
    });
    const control = daemon!;
    t.after(() => control.close());
    const [pid] = site.daemons().server as [number];
    assert.ok(!site.isMounted, 'it is mounted in the server’s own namespace');

    const look = `cd '${site.dir}' && ls && cat one.py pkg/__init__.py`;
    assert.equal(await outside(pid, look), 'one.py\npkg\n1\nVERSION = 1\n');
    assert.deepEqual((await control.request('status', {})).pins, [], 'nobody knows who that was');
    for (const write of ['> new.py', '> pkg/new.py', '>> one.py', '1<> one.py']) {
      assert.match(await outside(pid, `cd '${site.dir}'; echo x | cat ${write}`), /Read-only file system/, write);
    }
    for (const change of ['rm one.py', 'mkdir new', 'mv pkg other', 'chmod 600 one.py']) {
      assert.match(await outside(pid, `cd '${site.dir}'; ${change}`), /Read-only file system/, change);
    }

    // A writer that the server can see; meanwhile and afterwards the others have HEAD.
    const held = join(site.work, 'go-on');
    const script = `cd '${site.dir}'; echo 2 > one.py; mkdir more; until [ -e '${held}' ]; do touch more/on; sleep 0.05; done`;
    const inside = spawn(
      'nsenter',
      [`--mount=/proc/${pid}/ns/mnt`, `--pid=/proc/${pid}/ns/pid`, '--', 'sh', '-c', script],
      {
        stdio: 'ignore',
      },
    );
    const wrote = new Promise((resolve) => inside.once('exit', resolve));
    await until('it has written', async () =>
      (await control.request('status', {})).transactions.some(({ mutations }) => mutations > 1),
    );
    assert.equal(await outside(pid, look), 'one.py\npkg\n1\nVERSION = 1\n');
    writeFileSync(held, '');
    await wrote;
    await control.request('wait', { timeoutMs: 20_000 });
    assert.equal((await control.request('status', {})).generation, 1);
    assert.equal(await outside(pid, look), 'more\none.py\npkg\n2\nVERSION = 1\n');
  },
);
