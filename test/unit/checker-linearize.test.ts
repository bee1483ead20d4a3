/** test/checker/linearize: the small cases by hand. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { linearize, type Commit, type Read } from '../checker/linearize.js';

/** Commit 1 between 10 and 20, commit 2 between 30 and 40. */
const commits: Commit[] = [
  { notBefore: 10, visibleFrom: 20 },
  { notBefore: 30, visibleFrom: 40 },
];

function read(begin: number, end: number, ...states: number[]): Read {
  return { begin, end, allowed: states.map((state) => [state, state] as const) };
}

function kinds(...reads: Read[]): string[] {
  return linearize(commits, reads).map(({ kind, read }) => `${kind} ${read}`);
}

test('each state may be seen while it can be there', () => {
  assert.deepEqual(kinds(read(0, 5, 0), read(12, 13, 0), read(14, 15, 1), read(32, 33, 1), read(50, 51, 2)), []);
});

test('no state can be seen before its installer wrote the last byte', () => {
  assert.deepEqual(kinds(read(0, 5, 1)), ['early 0']);
  assert.deepEqual(kinds(read(0, 10, 1)), []);
});

test('who begins after the installer ended sees what it installed', () => {
  assert.deepEqual(kinds(read(21, 22, 0)), ['stale 0']);
  assert.deepEqual(kinds(read(20, 22, 0)), []);
});

test('who begins after a read has ended sees no older state', () => {
  assert.deepEqual(linearize(commits, [read(11, 12, 1), read(13, 14, 0)]), [
    { kind: 'stale', read: 1, mustSee: 1, because: { read: 0 } },
  ]);
});

test('reads that overlap may see either', () => {
  assert.deepEqual(kinds(read(11, 14, 1), read(13, 14, 0)), []);
});

test('a long read may fit an old state that a shorter one saw before', () => {
  assert.deepEqual(kinds(read(0, 100, 0), read(50, 51, 2)), []);
});

test('a value that came back fits its later place', () => {
  assert.deepEqual(kinds(read(11, 12, 1), read(31, 32, 0, 2)), []);
});

test('a value whose later place is not yet there is early, not stale', () => {
  assert.deepEqual(kinds(read(11, 12, 1), read(13, 14, 0, 2)), ['early 1']);
});

test('a state can not begin before the one that it follows', () => {
  const late: Commit[] = [
    { notBefore: 100, visibleFrom: 110 },
    { notBefore: 50, visibleFrom: 200 },
  ];
  assert.deepEqual(
    linearize(late, [read(60, 61, 2)]).map(({ kind }) => kind),
    ['early'],
  );
});

test('a read that is wrong is not held against later ones', () => {
  assert.deepEqual(kinds(read(0, 5, 2), read(6, 7, 0)), ['early 0']);
});
