/** The README says the same as the source, where it repeats it. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { EXIT_CODES } from '../../src/util/exit-codes.js';

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');

test('every exit code is in the table of the README, and no other', () => {
  const rows = [...readme.matchAll(/^\| (\d+) \| (.*) \|$/gm)].map(([, code, meaning]) => ({
    code: Number(code),
    meaning,
  }));
  assert.deepEqual(
    rows,
    Object.values(EXIT_CODES).map(({ code, meaning }) => ({ code, meaning })),
  );
});
