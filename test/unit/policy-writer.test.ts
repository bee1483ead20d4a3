import assert from 'node:assert/strict';
import { constants } from 'node:os';
import { test } from 'node:test';
import { isBytecodePath } from '../../src/policy/bytecode.js';
import { decideWriter, type ChainProcess } from '../../src/policy/writer.js';

function chain(...commands: string[]): ChainProcess[] {
  return commands.map((command, i) => {
    const argv = command.split(' ');
    return { pid: 100 - i, argv, exe: null, comm: argv[0] ?? '' };
  });
}

function decide(processes: ChainProcess[], op = 'create', path = 'x.py') {
  return decideWriter({ pid: processes[0]?.pid ?? 100, chain: processes, op, path: Buffer.from(path) });
}

test('pip typed into a shell is the root, not the shell', () => {
  assert.deepEqual(decide(chain('python -m pip install x', '-bash', 'sshd')), {
    kind: 'begin',
    rootPid: 100,
    installer: 'pip',
    commitWhen: 'exit',
    command: ['python', '-m', 'pip', 'install', 'x'],
  });
});

test('the topmost installer is the root, whatever lies between', () => {
  const decision = decide(
    chain('cc1', 'gcc', 'python setup.py install', 'sh', 'python -m pip install x', 'poetry install', 'bash'),
  );
  assert.equal(decision.kind === 'begin' && decision.rootPid, 95);
  assert.equal(decision.kind === 'begin' && decision.installer, 'poetry');
});

test('`poetry shell` is not the root of what is installed in it', () => {
  const decision = decide(chain('pip install x', 'bash', 'poetry shell', 'bash'));
  assert.equal(decision.kind === 'begin' && decision.rootPid, 100);
});

test('a writer that is no installer is its own root and may commit when quiet', () => {
  assert.deepEqual(decide(chain('cp -r a b', 'bash')), {
    kind: 'begin',
    rootPid: 100,
    installer: null,
    commitWhen: 'exit-or-quiet',
    command: ['cp', '-r', 'a', 'b'],
  });
});

test('bytecode of a reader makes no transaction, that of an installer does', () => {
  const path = 'pkg/__pycache__/a.cpython-311.pyc.140234';
  assert.deepEqual(decide(chain('python app.py', 'bash'), 'create', path), { kind: 'bytecode' });
  assert.equal(decide(chain('python -m compileall', 'dpkg -i x', 'bash'), 'create', path).kind, 'begin');
  assert.equal(decide(chain('python app.py'), 'create', 'pkg/data.db').kind, 'begin');
});

test('nobody to be seen is refused', () => {
  const unseen = decideWriter({ pid: 0, chain: chain('pip install'), op: 'create', path: Buffer.from('x') });
  assert.equal(unseen.kind === 'refuse' && unseen.errno, constants.errno.EROFS);
  const gone = decideWriter({ pid: 5, chain: [], op: 'create', path: Buffer.from('x') });
  assert.equal(gone.kind === 'refuse' && gone.errno, constants.errno.EROFS);
});

const BYTECODE: readonly (readonly [string, string, boolean])[] = [
  ['mkdir', '__pycache__', true],
  ['mkdir', 'a/b/__pycache__', true],
  ['create', '__pycache__/a.cpython-311.pyc', true],
  ['create', 'a/__pycache__/a.cpython-311.opt-1.pyc', true],
  ['create', 'a/__pycache__/a.cpython-311.pyc.94012345', true],
  ['rename', 'a/__pycache__/a.cpython-311.pyc.94012345', true],
  ['rename2', 'a/__pycache__/a.cpython-311.pyc', true],
  ['unlink', 'a/__pycache__/a.cpython-311.pyc', true],
  ['write', 'a/__pycache__/a.cpython-311-pytest-8.0.pyc', true],
  ['rmdir', 'a/__pycache__', false],
  ['create', 'a/__pycache__/a.py', false],
  ['create', 'a/__pycache__/.pyc', false],
  ['create', 'a/__pycache__/x/a.pyc', false],
  ['create', 'a/__pycache__x/a.pyc', false],
  ['create', 'a/x__pycache__', false],
  ['create', 'a.pyc', false],
  ['create', 'a/__pycache__/a.pyc.tmp', false],
  ['symlink', 'a/__pycache__/a.pyc', false],
  ['link', 'a/__pycache__/a.pyc', false],
  ['create', '', false],
];

for (const [op, path, expected] of BYTECODE) {
  test(`${op} ${path} is ${expected ? '' : 'not '}bytecode`, () => {
    assert.equal(isBytecodePath(op, Buffer.from(path)), expected);
  });
}
