/**
 * Who keeps what they saw, for how long, and who does not: forks, programs that are replaced in place, processes whose
 * parents are gone, leases. Every reader is a small Python program over a pipe: it imports when it is told to.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { mountedVenv, until, writeScript, type MountedVenv } from '../helpers/mounted-venv.js';
import { PIP_INSTALL } from '../helpers/versioned-package.js';
import { buildWheel } from '../helpers/wheel.js';

const TIMEOUT_MS = 10 * 60_000;

/**
 * One command a line: `pid`; `see`: pkg's version as a new import has it; `fork`: a child that goes on here; `orphan`: a
 * grandchild in a session of its own goes on here, its parent is gone;
 * `exec`: this program again, in this process.
 */
const READER = `
import importlib, os, sys
def see():
    for name in [n for n in sys.modules if n.split('.')[0] == 'pkg']: del sys.modules[name]
    importlib.invalidate_caches()
    import pkg, pkg.lazy
    assert pkg.V == pkg.lazy.V, (pkg.V, pkg.lazy.V)
    return pkg.V
def orphan():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: return
        os._exit(0)
    os.wait()
    os._exit(0)
def main():
    while True:
        line = sys.stdin.buffer.raw.readline().decode().strip()
        answer = 'done'
        if not line: return
        if line == 'pid': answer = os.getpid()
        if line == 'see': answer = see()
        if line == 'look': os.listdir(PATH)
        if line == 'import-base': import pkg
        if line == 'see-lazy': import pkg.lazy; answer = pkg.lazy.V
        if line == 'fork' and os.fork() != 0: os.wait(); return
        if line == 'orphan': orphan()
        if line == 'exec': os.execv(sys.executable, [sys.executable, *sys.argv])
        print(answer, flush=True)
PATH = sys.argv[1]
main()
`;

class Reader {
  private constructor(
    readonly child: ChildProcess,
    readonly ask: (command: string) => Promise<string>,
  ) {}

  static async start(mounted: MountedVenv): Promise<Reader> {
    // The shell stays when the reader ends, and with it the pipe that the reader's orphans read from.
    const script = writeScript(mounted, 'reader.py', READER);
    const child = mounted.start('/bin/sh', ['-c', '"$@"; sleep 1000', 'sh', mounted.python, script, mounted.site]);
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    const ask = async (command: string): Promise<string> => {
      child.stdin!.write(`${command}\n`);
      return (await lines.next()).value ?? 'ended';
    };
    const reader = new Reader(child, ask);
    await reader.ask('pid');
    return reader;
  }

  /** Not asked for anything: replaced. */
  async exec(): Promise<void> {
    this.child.stdin!.write('exec\n');
    assert.ok(Number(await this.ask('pid')) > 0);
  }
}

function wheel(mounted: MountedVenv, version: string): string {
  const source = `V = '${version}'\n`;
  return buildWheel({
    name: 'pkg',
    version,
    files: { 'pkg/__init__.py': source, 'pkg/lazy.py': source },
    dir: mounted.work,
  });
}

async function install(mounted: MountedVenv, version: string): Promise<void> {
  await mounted.must('pip', ...PIP_INSTALL, wheel(mounted, version));
  await mounted.settle();
}

test('forks keep what their parent saw, new programs do not', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t);
  await install(mounted, '1');
  const [plain, forked, orphaned, execed] = (await Promise.all([1, 2, 3, 4].map(() => Reader.start(mounted)))) as [
    Reader,
    Reader,
    Reader,
    Reader,
  ];
  for (const reader of [plain, forked, orphaned, execed]) assert.equal(await reader.ask('see'), '1');
  // Before the commit, and never heard of since.
  assert.equal(await orphaned.ask('orphan'), 'done');
  await install(mounted, '2');
  assert.equal(await plain.ask('see'), '1');
  assert.equal(await orphaned.ask('see'), '1', 'its parent and grandparent are gone');

  assert.equal(await forked.ask('fork'), 'done');
  assert.equal(await forked.ask('see'), '1');
  assert.equal(await forked.ask('orphan'), 'done');
  assert.equal(await forked.ask('see'), '1', 'after the commit');

  const pid = Number(await execed.ask('pid'));
  const since = (await mounted.status()).pins.find((pin) => pin.pid === pid);
  assert.deepEqual([since?.generation, since?.reason], [1, 'listed']);
  await execed.exec();
  assert.equal(Number(await execed.ask('pid')), pid);
  assert.equal(await execed.ask('see'), '2', 'a new program under the same number');
  assert.equal(await (await Reader.start(mounted)).ask('see'), '2');

  const { pins } = await mounted.status();
  const orphan = pins.find((pin) => pin.pid === -1 || pin.reason === 'inherited');
  assert.equal(orphan?.generation, 1);
  assert.ok(
    pins.every(({ command, sinceMs }) => command.includes('python') && sinceMs > 1e12),
    JSON.stringify(pins),
  );
});

test('a fork whose parent ended as the last one of its generation', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t);
  await install(mounted, '1');
  const reader = await Reader.start(mounted);
  await reader.ask('import-base');
  await install(mounted, '2');
  // Now: fork twice, without touching the mount in between.
  assert.equal(await reader.ask('orphan'), 'done');
  assert.equal(await mounted.must(mounted.python, '-c', 'import pkg; print(pkg.V)'), '2\n');
  assert.equal(await reader.ask('see-lazy'), '1');
  reader.child.stdin!.end();
});

test(
  'with the last process of an old generation, names are kept by the kernel again',
  { timeout: TIMEOUT_MS },
  async (t) => {
    const mounted = await mountedVenv(t);
    await install(mounted, '1');
    const old = await Reader.start(mounted);
    assert.equal(await old.ask('see'), '1');
    await install(mounted, '2');
    const lookups = async (): Promise<number> => {
      const count = async (): Promise<number> => (await mounted.status()).counters.requests['LOOKUP'] ?? 0;
      const stat = `import os\nfor i in range(100): os.stat(r'${mounted.site}/pkg')`;
      await mounted.must(mounted.python, '-S', '-c', stat);
      const before = await count();
      await mounted.must(mounted.python, '-S', '-c', stat);
      return (await count()) - before;
    };
    assert.ok((await lookups()) >= 100);
    old.child.stdin!.end();
    await until('nobody is left on generation 1', async () =>
      (await mounted.status()).pins.every(({ generation }) => generation !== 1),
    );
    assert.equal(await lookups(), 0);
  },
);

test('--pin lease', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t, { mount: ['--pin', 'lease:3'] });
  await install(mounted, '1');
  await sleep(3000);
  const reader = await Reader.start(mounted);
  assert.equal(await reader.ask('see'), '1');
  await mounted.tryRun(['pip', ...PIP_INSTALL, wheel(mounted, '2')]);
  await sleep(4000);
  assert.ok((await mounted.status()).pins.every(({ generation }) => generation !== 1));
  assert.equal(await reader.ask('see'), '2');
});

test('--pin none', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t, { mount: ['--pin', 'none'] });
  await install(mounted, '1');
  const reader = await Reader.start(mounted);
  assert.equal(await reader.ask('see'), '1');
  await install(mounted, '2');
  assert.equal(await reader.ask('see'), '2');
  assert.deepEqual((await mounted.status()).pins, []);
});

test('a process that installs moves to what it installed', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t);
  const path = wheel(mounted, '1');
  const notebook = `import importlib.util, os, subprocess, sys
os.listdir(${JSON.stringify(mounted.site)})
assert importlib.util.find_spec('pkg') is None
subprocess.check_call([sys.executable, '-m', 'pip', *${JSON.stringify([...PIP_INSTALL, path])}])
import importlib; importlib.invalidate_caches()
import pkg
print(pkg.V, flush=True)
sys.stdin.read()
`;
  const child = mounted.start(mounted.python, ['-c', notebook]);
  const [line] = await new Promise<string[]>((resolve) =>
    child.stdout!.once('data', (text: Buffer) => resolve(String(text).split('\n'))),
  );
  assert.equal(line, '1');
  const pin = (await mounted.status()).pins.find(({ pid }) => pid === child.pid);
  assert.deepEqual([pin?.generation, pin?.reason], [1, 'moved']);
  child.stdin!.end();
});
