/**
 * The checker on a siteswap mount, with a load that is small enough for every test run; the long run is by hand:
 * `npx tsx test/checker/main.ts --directory DIR --seconds 600`.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkMount } from '../helpers/checker.js';
import { formatReport, type Report } from '../checker/report.js';

function assertClean(report: Report): void {
  assert.equal(report.violations, 0, formatReport(report));
  assert.ok(report.installs.committed >= 10, formatReport(report));
  assert.ok(report.installs.aborted > 0, formatReport(report));
}

test('readers never see half of an install', async () => assertClean(await checkMount(40, { flags: ['--seed', '1'] })));

test('nor without the epoch: root names are asked for each time', async () =>
  assertClean(await checkMount(15, { disable: 'epoch', flags: ['--seed', '2'] })));

test('nor with OPEN, RELEASE and FLUSH', async () =>
  assertClean(await checkMount(15, { disable: 'no-open', flags: ['--seed', '3'] })));

test('without pins the checker sees that a long-lived process gets other modules than fit', async () => {
  const { counts } = await checkMount(12, { mountFlags: ['--pin', 'none'], flags: ['--readers', 'lazy,stat'] });
  const torn = Object.keys(counts['torn'] ?? {}).length + Object.keys(counts['error'] ?? {}).length;
  assert.ok(torn > 0, JSON.stringify(counts));
});
