/**
 * Who waits for what when an installer has ended: several commits at once, installers that leave something behind, parents
 * that don't look, and decisions against. (That `install x && import x` sees x, many times over, is barrier.test.ts.)
 * `setup.py` makes a script an installer; what it does is up to the test.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { mountedVenv, until, writeScript, type MountedVenv } from '../helpers/mounted-venv.js';

const TIMEOUT_MS = 10 * 60_000;

function setup(mounted: MountedVenv, text: string): string {
  return writeScript(mounted, 'setup.py', `import os, sys, time\nSITE = ${JSON.stringify(mounted.site)}\n${text}`);
}

const WRITE = "open(f'{SITE}/{sys.argv[1]}.py', 'w').write('N = 1')";

test('several commits are pending: a new process sees all of them', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t, { pip: false });
  const script = setup(
    mounted,
    `${WRITE}\nos.makedirs(f'{SITE}/{sys.argv[1]}_more')\nfor i in range(300): open(f'{SITE}/{sys.argv[1]}_more/{i}', 'w').write('x' * 4096)`,
  );
  const modules = ['a', 'b', 'c', 'd', 'e'];
  const installs = modules.map((name) => `'${mounted.python}' -I '${script}' ${name} &`).join(' ');
  for (let round = 1; round <= 5; round++) {
    const names = modules.map((name) => `${name}${round}`);
    const all = installs.replaceAll(/ ([a-e]) &/g, ` $1${round} &`);
    const result = await mounted.venv.run('/bin/sh', [
      '-c',
      `${all} wait; '${mounted.python}' -c 'import ${names.join(', ')}'`,
    ]);
    assert.equal(result.code, 0, result.stderr + mounted.serverLog());
    const { generation } = await mounted.status();
    assert.equal(generation, 5 * round);
  }
  await mounted.unmount();
});

test(
  'a child that an installer leaves behind does not hold up its commit, and goes on at HEAD',
  { timeout: TIMEOUT_MS },
  async (t) => {
    const mounted = await mountedVenv(t, { pip: false });
    const seen = join(mounted.work, 'seen');
    const script = setup(
      mounted,
      `${WRITE}
if os.fork() == 0:
    os.setsid()
    if os.fork() != 0: os._exit(0)
    os.listdir(SITE)
    while os.path.isdir('${mounted.work}') and not os.path.exists('${seen}.go'): time.sleep(0.05)
    with open('${seen}', 'w') as f: f.write(' '.join(sorted(n for n in os.listdir(SITE) if n.endswith('.py'))))
    open(f'{SITE}/later.py', 'w').write('N = 2')
    os._exit(0)
os.wait()
`,
    );
    await mounted.must(
      '/bin/sh',
      '-c',
      `'${mounted.python}' -I '${script}' one </dev/null >/dev/null 2>'${seen}.errors' && '${mounted.python}' -c 'import one'`,
    );
    await mounted.settle();
    assert.equal((await mounted.status()).generation, 1, mounted.serverLog());
    await mounted.must('/usr/bin/touch', join(mounted.site, 'two.py'));
    await mounted.settle();
    await mounted.must('/usr/bin/touch', `${seen}.go`);
    await until('the child has looked', () => {
      assert.equal(readFileSync(`${seen}.errors`, 'utf8'), '');
      return existsSync(seen) && readFileSync(seen, 'utf8') !== '';
    });
    const visible = readFileSync(seen, 'utf8').split(' ');
    assert.ok(visible.includes('one.py'), visible.join());
    // What it writes now is its own work.
    await until('its write is committed', async () => (await mounted.status()).generation === 3);
    await mounted.must(mounted.python, '-c', 'import one, two, later; assert later.N == 2');
    await mounted.unmount();
  },
);

test(
  'an installer that nobody reaps is committed, and told from one that failed',
  { timeout: TIMEOUT_MS },
  async (t) => {
    const mounted = await mountedVenv(t, { pip: false });
    const script = setup(mounted, `${WRITE}\nsys.exit(int(sys.argv[2]))`);
    const parent = mounted.start(mounted.python, [
      '-Ic',
      'import subprocess, sys\nkept = [subprocess.Popen([sys.executable, "-I", sys.argv[1], *words.split()]) for words in sys.argv[2:]]\nsys.stdin.read()',
      script,
      'good 0',
      'bad 3',
    ]);
    await until('it is committed', async () => (await mounted.status()).generation === 1);
    await mounted.settle();
    await mounted.must(mounted.python, '-c', 'import good');
    assert.equal((await mounted.venv.run(mounted.python, ['-c', 'import bad'])).code, 1);
    assert.deepEqual((await mounted.status()).transactions, []);
    assert.equal(parent.exitCode, null);
    parent.stdin!.end();
    await mounted.unmount();
  },
);

test('a commit is refused: who waited goes on at what was there', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t, { pip: false });
  const broken = setup(
    mounted,
    `${WRITE}\nos.mkdir(f'{SITE}/{sys.argv[1]}-1.dist-info')\nopen(f'{SITE}/{sys.argv[1]}-1.dist-info/METADATA', 'w').close()`,
  );
  for (const name of ['x', 'y', 'z']) {
    const looks = `'${mounted.python}' -I '${broken}' ${name} && '${mounted.python}' -c 'import ${name}'`;
    const begun = Date.now();
    const { code, stderr } = await mounted.venv.run('/bin/sh', ['-c', looks]);
    assert.equal(code, 1, stderr);
    assert.match(stderr, /ModuleNotFoundError/);
    assert.ok(Date.now() - begun < 20_000);
  }
  const { transactions, generation, counters } = await mounted.status();
  assert.deepEqual(
    [transactions.map(({ state }) => state), generation, counters.parked],
    [['refused', 'refused', 'refused'], 0, 0],
  );
  await mounted.unmount();
});
