/** A test over the source itself: what the architecture bans, and what to use instead. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const source = join(root, 'src');
const MAX_LINES = 500;

/** What each folder may import, besides itself and util. Types included: a type is knowledge too. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  util: [],
  store: [],
  policy: [],
  python: [],
  native: [],
  fuse: ['native'],
  txn: ['store', 'policy', 'python'],
  verifier: ['python'],
  daemon: ['txn', 'store', 'policy', 'python', 'fuse', 'verifier'],
  cli: ['daemon', 'txn', 'store', 'policy', 'python', 'fuse', 'native', 'verifier'],
};

interface Source {
  name: string;
  text: string;
}

const files: Source[] = readdirSync(source, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.ts'))
  .map((name) => ({ name, text: readFileSync(join(source, name), 'utf8') }));

function imports({ text }: Source): string[] {
  return [...text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*'([^']+)'/g)].map((match) => match[1]!);
}

/** Matches outside of comments. */
function offenders(pattern: RegExp, ...allowed: string[]): string[] {
  return files
    .filter(({ name }) => !allowed.includes(name))
    .filter(({ text }) => pattern.test(text.replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '')))
    .map(({ name }) => name);
}

test('imports run one way', () => {
  for (const file of files) {
    const folder = file.name.split('/')[0]!;
    const allowed = MAY_IMPORT[folder];
    assert.ok(allowed, `src/${file.name}: a folder that the architecture does not know`);
    for (const path of imports(file).filter((specifier) => specifier.startsWith('.'))) {
      const target = relative(source, resolve(dirname(join(source, file.name)), path)).split('/')[0]!;
      const fine = target === folder || target === 'util' || allowed.includes(target);
      assert.ok(fine, `src/${file.name} imports ${path}: ${folder} may import ${allowed.join(', ') || 'util only'}`);
    }
  }
});

test('only store/atomic-fs renames and syncs', () => {
  const banned = /\b(?:rename|renameSync|fsync|fsyncSync|fdatasync|fdatasyncSync|datasync)\s*\(|\.sync\(\)/;
  // `sync()` of a commit's context and of the notes is the backend's, of a whole file system.
  assert.deepEqual(
    offenders(banned, 'store/atomic-fs.ts', 'txn/commit.ts', 'txn/kept-notes.ts'),
    [],
    'use store/atomic-fs',
  );
});

test('only util/debug imports debug', () => {
  assert.deepEqual(offenders(/from 'debug'/, 'util/debug.ts'), [], 'use debugFor of util/debug');
});

test('only cli/output prints', () => {
  assert.deepEqual(offenders(/\bconsole\.\w+\(/), [], 'use cli/output, or the log of the daemon');
  assert.deepEqual(offenders(/process\.stdout\.write/, 'cli/output.ts'), [], 'use cli/output');
});

test('only native/load loads the addon', () => {
  assert.deepEqual(offenders(/siteswap\.node|createRequire/, 'native/load.ts'), [], 'use native/load');
});

test('a file is one idea: it opens with what it is, and is short', () => {
  for (const { name, text } of files) {
    assert.match(text, /^(#!.*\n)?\/\*\*/, `src/${name} does not open with a comment that says what it is`);
    const lines = text.split('\n').length;
    assert.ok(lines <= MAX_LINES, `src/${name} has ${lines} lines: two ideas`);
  }
});
