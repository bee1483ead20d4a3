/**
 * An installer that works in a child is killed, aborted, or loses its mount: the child goes on, and the second half of its
 * work must become neither a commit of its own nor a part of the original directory.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { mountedVenv, writeScript, type MountedVenv } from '../helpers/mounted-venv.js';

const TIMEOUT_MS = 5 * 60_000;
const WRITTEN_FIRST = 5;

/** Named as an installer is; says what it writes, and how it ended. */
const INSTALLER = (python: string): string => `#!${python}
import subprocess, sys
WORK = """
import os, sys, time
for i in range(5000):
    try:
        open(os.path.join(sys.argv[1], 'flat%04d.py' % i), 'w').write('x = 1')
    except OSError as error:
        print('stopped', error.errno, flush=True)
        sys.exit(1)
    print('wrote', i, flush=True)
    time.sleep(0.005)
"""
subprocess.run([sys.executable, '-c', WORK, sys.argv[1]])
`;

interface Installer {
  process: ChildProcess;
  /** How its child ended. */
  ended: Promise<string>;
}

/** Once it has written something. */
async function install(mounted: MountedVenv): Promise<Installer> {
  const program = writeScript(mounted, 'poetry', INSTALLER(mounted.python));
  const process = mounted.start(program, [mounted.site]);
  const lines = createInterface(process.stdout!);
  let last = '';
  let written = 0;
  let begun = (): void => undefined;
  const hasBegun = new Promise<void>((resolve) => (begun = resolve));
  lines.on('line', (line) => {
    last = line;
    if (++written === WRITTEN_FIRST) begun();
  });
  const ended = once(lines, 'close').then(() => last);
  await hasBegun;
  return { process, ended };
}

function flat(names: Iterable<string>): string[] {
  return [...names].filter((name) => name.includes('flat'));
}

const EROFS = 30;

test('what a dropped transaction leaves running changes nothing', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t, { pip: false });

  const drops: [string, (installer: Installer) => Promise<unknown>][] = [
    ['killed', ({ process }) => Promise.resolve(process.kill('SIGKILL'))],
    ['aborted', () => mounted.siteswap('abort', mounted.site)],
  ];
  for (const [how, drop] of drops) {
    await t.test(how, async () => {
      const installer = await install(mounted);
      await drop(installer);
      assert.equal(await installer.ended, `stopped ${EROFS}`, mounted.serverLog());
      await mounted.settle();
      assert.deepEqual(flat((await mounted.listing()).keys()), []);
      const { generation, transactions } = await mounted.status();
      assert.deepEqual([generation, transactions], [0, []], mounted.serverLog());
    });
  }

  await t.test('what is started afterwards is free to write', async () => {
    await mounted.must('python', '-c', `open('${mounted.site}/later.py', 'w').write('x = 1')`);
    await mounted.settle();
    assert.equal((await mounted.status()).generation, 1, mounted.serverLog());
  });

  await t.test('a plain writer that was aborted may write again after a while', async () => {
    const script = `
import sys, time
def put(name):
    try:
        open('${mounted.site}/' + name, 'w').write('x = 1')
        print('wrote', flush=True)
    except OSError as error:
        print(error.errno, flush=True)
for line in sys.stdin:
    put(line.strip())
`;
    const writer = mounted.start('python', ['-c', script]);
    const answers = createInterface(writer.stdout!)[Symbol.asyncIterator]();
    const put = async (name: string): Promise<unknown> => {
      writer.stdin!.write(`${name}\n`);
      return (await answers.next()).value;
    };
    assert.equal(await put('one.py'), 'wrote');
    await mounted.siteswap('abort', mounted.site);
    assert.equal(await put('two.py'), String(EROFS));
    const until = Date.now() + 60_000;
    let answer: unknown = null;
    // Each try that is refused begins the time anew: so with pauses longer than that.
    while (answer !== 'wrote' && Date.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 2_500));
      answer = await put('three.py');
    }
    assert.equal(answer, 'wrote');
    writer.stdin!.end();
    await once(writer, 'exit');
    await mounted.settle();
    const names = [...(await mounted.listing()).keys()].filter((name) => /(one|two|three)\.py$/.test(name));
    assert.deepEqual(names, ['three.py']);
  });

  await t.test('unmount --force waits for it', async () => {
    const installer = await install(mounted);
    await mounted.siteswap('unmount', '--force', mounted.site);
    assert.equal(await installer.ended, `stopped ${EROFS}`);
    assert.deepEqual(flat(readdirSync(mounted.site)), []);
    mounted.assertLowerUntouched();
  });
});
