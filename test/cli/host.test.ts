/** What the host is asked, and how its answers are read. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { allowsOther, examineHost, findInPath, kernelAtLeast } from '../../src/cli/host.js';
import { siteswap } from './run-cli.js';

test('kernel releases are compared as numbers', () => {
  assert.ok(kernelAtLeast('6.18.44-fc', '6.9'));
  assert.ok(kernelAtLeast('6.9-rc1', '6.9'));
  assert.ok(kernelAtLeast('10.0.0', '6.16'));
  assert.ok(!kernelAtLeast('6.8.12', '6.9'));
  assert.ok(!kernelAtLeast('5.15.0-91-generic', '6.1'));
});

test('user_allow_other counts only as a line of its own', () => {
  assert.ok(allowsOther('# hello\n  user_allow_other  \n'));
  assert.ok(!allowsOther('#user_allow_other\nmount_max = 1000\n'));
});

test('findInPath: executable files only, in order', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'siteswap-path-'));
  t.after(() => rmSync(directory, { recursive: true }));
  writeFileSync(join(directory, 'plain'), '', { mode: 0o644 });
  writeFileSync(join(directory, 'tool'), '', { mode: 0o755 });
  assert.equal(findInPath('tool', `/nonexistent:${directory}`), join(directory, 'tool'));
  assert.equal(findInPath('plain', directory), null);
  assert.equal(findInPath('tool', ''), null);
});

test('a feature that is switched off is reported so', (t) => {
  process.env['SITESWAP_DISABLE'] = 'readdirplus';
  t.after(() => delete process.env['SITESWAP_DISABLE']);
  const feature = examineHost().features.find(({ name }) => name === 'readdirplus');
  assert.equal(feature?.available, false);
});

test('doctor --json agrees with its exit code', async () => {
  const { code, stdout } = await siteswap(['doctor', '--json']);
  const report = JSON.parse(stdout) as { usable: boolean; checks: { ok: boolean; required: boolean }[] };
  assert.equal(
    report.usable,
    report.checks.every(({ ok, required }) => ok || !required),
  );
  assert.equal(code, report.usable ? 0 : 6);
});
