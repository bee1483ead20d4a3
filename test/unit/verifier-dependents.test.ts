/** `--verify deep`: which modules belong to distributions that need one that changed. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { modulesOfDependents } from '../../src/verifier/dependents.js';
import { stagedTree } from '../../src/verifier/trees.js';

function tree(t: TestContext, files: Record<string, string>): string {
  const root = mkdtempSync(join(tmpdir(), 'siteswap-dependents-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

function distribution(name: string, requires: string[], files: string[]): Record<string, string> {
  const info = `${name}-1.0.dist-info`;
  const lines = [
    'Metadata-Version: 2.1',
    `Name: ${name}`,
    'Version: 1.0',
    ...requires.map((each) => `Requires-Dist: ${each}`),
  ];
  return {
    [`${info}/METADATA`]: `${lines.join('\n')}\n`,
    [`${info}/RECORD`]: [...files, `${info}/METADATA`, '../../../bin/tool'].map((path) => `${path},,\n`).join(''),
    ...Object.fromEntries(files.map((path) => [path, ''])),
  };
}

const CHANGED = [{ name: 'the-lib', from: '1.0', to: '2.0' }];

test('those that need it, by whatever spelling; not itself, not the others', async (t) => {
  const root = tree(t, {
    ...distribution('the_lib', [], ['the_lib/__init__.py']),
    ...distribution('direct', ['The.Lib<2'], ['direct/__init__.py', 'direct/inner.py', 'also_direct.py']),
    ...distribution('withextra', ['the-lib[fast]>1; python_version > "3"'], ['withextra/__init__.py']),
    ...distribution('indirect', ['direct'], ['indirect/__init__.py']),
    ...distribution('other', ['the-library', 'not a requirement ]['], ['other/__init__.py']),
  });
  assert.deepEqual(await modulesOfDependents(CHANGED, stagedTree(root)), ['also_direct', 'direct', 'withextra']);
  assert.deepEqual(await modulesOfDependents([], stagedTree(root)), []);
});

test('egg-info: by SOURCES.txt; what it lists and is not there is none', async (t) => {
  const root = tree(t, {
    'old.egg-info/PKG-INFO': 'Metadata-Version: 1.0\nName: old\nVersion: 1.0\n',
    'old.egg-info/requires.txt': 'the-lib\n',
    'old.egg-info/SOURCES.txt': 'setup.py\nold/__init__.py\nold/part.py\ngone/__init__.py\n',
    'old/__init__.py': '',
  });
  assert.deepEqual(await modulesOfDependents(CHANGED, stagedTree(root)), ['old']);
});
