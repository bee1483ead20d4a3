import assert from 'node:assert/strict';
import { test } from 'node:test';
import { verifyNothing } from '../../src/txn/verification.js';
import type { PathChange, TreeView } from '../../src/txn/engine-port.js';
import type { Transaction } from '../../src/txn/transaction.js';

type Files = Record<string, string>;

function tree(before: Files, after: Files): Parameters<typeof verifyNothing>[0] {
  const filesOf = (view: TreeView): Files => ('transaction' in view ? after : before);
  const missing = (): Error => Object.assign(new Error('none'), { code: 'ENOENT' });
  return {
    list(view, path) {
      const prefix = path.length === 0 ? '' : `${path.toString()}/`;
      const below = Object.keys(filesOf(view)).filter((name) => name.startsWith(prefix));
      if (below.length === 0) throw missing();
      const names = new Set(below.map((name) => name.slice(prefix.length).split('/')[0]!));
      return [...names].map((name) => {
        const isFile = filesOf(view)[prefix + name] !== undefined;
        return { name: Buffer.from(name), type: isFile ? 'file' : 'directory' };
      });
    },
    read(view, path) {
      const content = filesOf(view)[path.toString()];
      return content === undefined ? Promise.reject(missing()) : Promise.resolve(Buffer.from(content));
    },
  };
}

function changes(...paths: string[]): PathChange[] {
  return paths.map((path) => ({ path: Buffer.from(path), kind: 'modified', type: 'file' }));
}

const OPTIONS = { force: false, commands: [], onCheck: () => undefined, signal: new AbortController().signal };
const TRANSACTION = { id: 7, base: 0 } as Transaction;

test('an upgrade, an install and a removal are told', async () => {
  const before = {
    'Foo_Bar-1.dist-info/METADATA': 'Name: Foo_Bar\nVersion: 1\n\nVersion: 9',
    'Foo_Bar-1.dist-info/RECORD': '',
    'old.egg-info': 'Name: old\nVersion: 0.1\n',
  };
  const after = {
    'foo_bar-2.dist-info/METADATA': 'Metadata-Version: 2.1\r\nName: foo-bar\r\nVersion: 2\r\n\r\nText',
    'foo_bar-2.dist-info/RECORD': 'foo_bar-2.dist-info/METADATA,,\n',
    'new-3.egg-info/PKG-INFO': 'Metadata-Version: 2.1\nName: new\nVersion: 3\n',
  };
  const touched = changes(...Object.keys(before), ...Object.keys(after), 'foo/__init__.py');
  const verdict = await verifyNothing(tree(before, after))(TRANSACTION, touched, OPTIONS);
  assert.deepEqual(verdict, {
    findings: [],
    checks: [],
    interpreter: null,
    packages: [
      { name: 'foo-bar', from: '1', to: '2' },
      { name: 'new', from: null, to: '3' },
      { name: 'old', from: '0.1', to: null },
    ],
  });
});

test('what is broken is not looked for', async () => {
  const files = tree({}, { 'x-1.dist-info/INSTALLER': 'pip' });
  const { findings } = await verifyNothing(files)(TRANSACTION, changes('x-1.dist-info/INSTALLER'), OPTIONS);
  assert.deepEqual(findings, []);
});
