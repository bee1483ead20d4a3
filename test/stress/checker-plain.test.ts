/** The checker's own test: it must find out within seconds that a plain directory is not atomic. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkPlain } from '../helpers/checker.js';

test('on a plain directory the checker finds torn reads within seconds', async () => {
  const report = await checkPlain(8, '--seed', '3');
  const found = (kind: string): number => Object.values(report.counts[kind] ?? {}).length;
  assert.ok(report.violations > 0);
  // By more than one kind of reader, and more than one kind of violation.
  assert.ok(found('torn') > 0, JSON.stringify(report.counts));
  assert.ok(found('error') > 1, JSON.stringify(report.counts));
});
