import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { parseCommandLine, parseStat, parseUid, readChain, readProcess } from '../../src/policy/process-info.js';

const TAIL = ' S 77 1 1 0 -1 4194368 1 2 3 4 5 6 7 8 20 0 1 0 987654321 1000 100 18446744073709551615 0\n';

for (const comm of ['sh', 'a) R 1 (b', ')', '', ' ) ) ', 'two\nlines']) {
  test(`stat of a process called ${JSON.stringify(comm)}`, () => {
    const expected = { pid: 12, comm, state: 'S', parentPid: 77, startTicks: 987654321n };
    assert.deepEqual(parseStat(`12 (${comm})${TAIL}`), expected);
  });
}

test('stat that no kernel writes', () => {
  for (const text of ['', '12', '12 (sh)', '12 (sh) S 1', 'x (sh) S 1 2']) assert.equal(parseStat(text), null);
});

test('command lines', () => {
  assert.deepEqual(parseCommandLine(Buffer.from('')), []);
  assert.deepEqual(parseCommandLine(Buffer.from('a\0b c\0')), ['a', 'b c']);
  assert.deepEqual(parseCommandLine(Buffer.from('a\0\0b\0')), ['a', '', 'b']);
  assert.deepEqual(parseCommandLine(Buffer.from('sshd: user [priv]')), ['sshd: user [priv]']);
});

test('user id', () => {
  assert.equal(parseUid('Name:\tx\nUid:\t1000\t0\t0\t0\n'), 1000);
  assert.equal(parseUid(''), null);
});

test('this process, its child, and a process that is gone', async () => {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  await once(child, 'spawn');
  const pid = child.pid ?? 0;
  const chain = readChain(pid);
  assert.equal(chain[0]?.pid, pid);
  assert.deepEqual(chain[0]?.argv, ['sleep', '60']);
  assert.equal(chain[0]?.uid, process.getuid?.());
  assert.equal(chain[1]?.pid, process.pid);
  assert.equal(chain[1]?.exe, process.execPath);
  assert.equal(chain.at(-1)?.parentPid, 0, 'it ends with process 1');
  assert.deepEqual(
    readChain(pid, new Set([process.pid])).map((each) => each.pid),
    [pid],
  );
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.equal(readProcess(pid), null);
  assert.deepEqual(readChain(pid), []);
});
