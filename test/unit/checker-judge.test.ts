/** test/checker/judge and commit-log: each kind of violation, from a small history. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { replayLog, replayOutcomes, type LoggedGeneration } from '../checker/commit-log.js';
import type { History, Look, Operation, Outcome, Value } from '../checker/history.js';
import { judge } from '../checker/judge.js';

function history(looks: Look[] = []): History {
  const operations = new Map<number, Operation>();
  const outcomes: Outcome[] = [];
  const installed: [distribution: string, value: Value, code: number | null][] = [
    ['a', '1.1', 0],
    ['b', '1.2', 0],
    ['a', '2.3', 0],
    ['b', '2.4', null],
  ];
  for (const [index, [distribution, value, code]] of installed.entries()) {
    const id = index + 1;
    operations.set(id, { id, writer: 'w', distribution, value, contended: false });
    const [start, end] = [id * 100, id * 100 + 50];
    const signal = code === null ? 9 : null;
    outcomes.push({ op: id, start, end, code, signal, hung: false, lastWrite: end - 10, stderr: '' });
  }
  return { distributions: ['a', 'b'], operations, outcomes, looks };
}

function generation(op: number, name: string, from: Value, to: Value): LoggedGeneration {
  const command = ['python', 'pip', 'install', '--op', String(op), 'x.whl'];
  return { generation: op, reason: 'commit', command, packages: [{ name, from, to }] };
}

const LOG = [generation(1, 'a', null, '1.1'), generation(2, 'b', null, '1.2'), generation(3, 'a', '1.1', '2.3')];

function look(begin: number, seen: Look['seen'], errors: Look['errors'] = []): Look {
  return { kind: 'import', how: 'fork', pid: 1, begin, end: begin + 5, seen, errors };
}

function kinds(looks: Look[], generations = LOG): string[] {
  const all = history(looks);
  return judge(all, replayLog(all, generations)).map(({ kind, about }) => `${kind}: ${about}`);
}

test('whole versions in their order are no violation', () => {
  const first = { a: { module: '1.1', submodule: '1.1' }, b: { module: null } };
  const last = { a: { serial: 3, module: '2.3' }, b: { metadata: '1.2' } };
  assert.deepEqual(kinds([look(160, first), look(400, last)]), []);
});

test('two versions of one distribution in one look are torn', () => {
  assert.deepEqual(kinds([look(400, { a: { module: '1.1', metadata: '2.3' } })]), ['torn: module / metadata']);
  assert.deepEqual(kinds([look(400, { a: { module: null, serial: 3 } })]), ['torn: module / serial']);
});

test('distributions that were never there together are mixed', () => {
  assert.deepEqual(kinds([look(120, { a: { module: '2.3' }, b: { module: null } })]), ['mixed: distributions']);
});

test('what a killed installer wrote must not be seen', () => {
  assert.deepEqual(kinds([look(500, { b: { module: '2.4' } })]), ['uncommitted: signal 9']);
});

test('order in time', () => {
  assert.deepEqual(kinds([look(400, { a: { module: '1.1' } })]), ['stale: order']);
  assert.deepEqual(kinds([look(310, { a: { module: '2.3' } })]), ['early: order']);
});

test('a look that failed is a violation', () => {
  assert.deepEqual(kinds([look(400, {}, [['ImportError', 'no']])]), ['error: ImportError']);
});

test('the log must say what the installers did', () => {
  const problems = (generations: LoggedGeneration[]): string[] => replayLog(history(), generations).problems;
  assert.deepEqual(problems(LOG), []);
  assert.match(problems(LOG.slice(0, 2)).join(), /operation 3 .* exited with 0 and was not committed/);
  assert.match(problems([...LOG, generation(4, 'b', '1.2', '2.4')]).join(), /operation 4 ended with signal 9/);
  assert.match(problems([...LOG, generation(3, 'a', '2.3', '2.3')]).join(), /operation 3 was committed twice/);
  assert.match(problems([LOG[0]!, LOG[1]!, generation(3, 'a', '1.2', '2.3')]).join(), /generation 3 should be a 1\.1/);
  assert.match(
    problems([...LOG, { ...LOG[0]!, generation: 9, command: ['rm'] }]).join(),
    /generation 9 .* no installer/,
  );
});

test('without a log, each distribution is judged on its own', () => {
  const all = history([look(160, { a: { module: '1.1' }, b: { module: '1.2' } }), look(400, { a: { module: '1.1' } })]);
  const found = judge(all, replayOutcomes(all)).map(({ kind }) => kind);
  assert.deepEqual(found.sort(), ['early', 'stale']);
});
