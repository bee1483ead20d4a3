/** The linters and formatters, one test each, so that `npm test` runs them and names the one that complains. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';

function run(command: string, args: string[]): void {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 64 << 20 });
  if (error) throw error;
  assert.equal(status, 0, `${command} ${args.slice(0, 6).join(' ')}\n${stdout}${stderr}`);
}

function lines(command: string, args: string[]): string[] {
  const { stdout } = spawnSync(command, args, { encoding: 'utf8' });
  return stdout.split('\n').filter((line) => line !== '');
}

function tool(name: string): string {
  return `node_modules/.bin/${name}`;
}

test('tsc: src', () => run(tool('tsc'), ['-p', 'tsconfig.json', '--noEmit']));

test('tsc: tests and scripts', () => run(tool('tsc'), ['-p', 'test/tsconfig.json']));

test('oxlint, type-aware', () => {
  run(tool('oxlint'), ['--type-aware', '--tsconfig', 'test/tsconfig.json', '--deny-warnings', '.']);
});

test('prettier', () => run(tool('prettier'), ['--check', '--log-level', 'warn', '.']));

test('clang-format', () => run('clang-format', ['--dry-run', '-Werror', ...lines('mount-scripts/native-files', [])]));

test('clang-tidy', () => run('mount-scripts/lint-native', []));

test('shellcheck', () => {
  const scripts = readdirSync('mount-scripts')
    .map((name) => `mount-scripts/${name}`)
    .filter((path) => /^#!.*\b(ba)?sh\n/.test(readFileSync(path, 'utf8')));
  run('shellcheck', ['.ci/run', ...scripts]);
});
