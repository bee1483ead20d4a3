import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { test } from 'node:test';
import {
  decideWriter,
  isByteCode,
  looksLikeInstaller,
  parentOfStat,
  processChain,
} from '../../src/daemon/writer-policy.js';
import type { WriterRoot } from '../../src/daemon/writers.js';

test('installers are known by their command lines', () => {
  const installers = [
    'pip install x',
    '/venv/bin/pip3.11 install x',
    '/venv/bin/python /venv/bin/pip install x',
    'python3.11 -W ignore -m pip install x',
    'python -m pip',
    'python -I -m pip._internal install x',
    'python setup.py develop',
    'python -u ./setup.py install',
    'uv pip install x',
    'poetry add x',
    'apt-get install python3-x',
    '/usr/bin/dpkg -i x.deb',
  ];
  for (const line of installers) assert.ok(looksLikeInstaller(line.split(' ')), line);
  const others = [
    'python app.py',
    'python -m app pip',
    'bash',
    'cp -r a b',
    'python -X dev app.py',
    'pipeline',
    '',
    'tar xf pip',
  ];
  for (const line of others) assert.ok(!looksLikeInstaller(line.split(' ')), line);
});

function chain(...lines: string[]): WriterRoot[] {
  return lines.map((line, i) => ({ pid: 100 - i, command: line.split(' ') }));
}

const PATH = { path: Buffer.from('x/__init__.py') };

test('the topmost installer is the root', () => {
  const decision = decideWriter(PATH, chain('cc -c x.c', 'python setup.py build', 'pip install x', 'bash'));
  assert.deepEqual(decision, {
    kind: 'transaction',
    root: { pid: 98, command: ['pip', 'install', 'x'] },
    when: 'exit',
  });
});

test('any other writer is its own root', () => {
  const decision = decideWriter(PATH, chain('cp -r a b', 'bash'));
  assert.deepEqual(decision, {
    kind: 'transaction',
    root: { pid: 100, command: ['cp', '-r', 'a', 'b'] },
    when: 'exit-or-quiet',
  });
});

test('byte code is a part of an install, and refused to a reader', () => {
  const path = Buffer.from('x/__pycache__/y.cpython-311.pyc.139872315');
  assert.equal(decideWriter({ path }, chain('python -m pip install x')).kind, 'transaction');
  assert.deepEqual(decideWriter({ path }, chain('python app.py')), { kind: 'refuse', errno: constants.errno.EROFS });
  assert.ok(isByteCode('__pycache__') && isByteCode('a/__pycache__'));
  assert.ok(!isByteCode('a/__pycache__/notes.txt') && !isByteCode('a.pyc') && !isByteCode('x__pycache__'));
});

test('who can not be seen writes nothing', () => {
  assert.deepEqual(decideWriter(PATH, []), { kind: 'refuse', errno: constants.errno.EROFS });
  assert.deepEqual(processChain(2 ** 22 + 1), []);
});

test('the chain is read from /proc', () => {
  const [self, parent] = processChain(process.pid);
  assert.equal(self?.pid, process.pid);
  if (process.ppid > 1) assert.equal(parent?.pid, process.ppid);
  assert.equal(parentOfStat('12 (a) b (c)) S 7 12 12'), 7);
});
