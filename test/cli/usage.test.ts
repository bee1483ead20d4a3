/** Wrong command lines: exit code 2, `error:` and `hint:` on stderr, nothing on stdout. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { siteswap } from './run-cli.js';

const WRONG: [string[], RegExp][] = [
  [['frobnicate'], /^error: unknown command 'frobnicate'\n/],
  [['status', '--frobnicate'], /^error: unknown option '--frobnicate'\n/],
  [['status', 'a', 'b'], /^error: too many arguments/],
  [['mount', '.', '--verify', 'perhaps'], /^error: .*'perhaps' is invalid. Allowed choices are none, record/],
  [['mount', '.', '--backend', 'magic'], /^error: .*'magic' is invalid/],
  [['begin', '--pid', '0'], /^error: .*Not a process id/],
  [['begin', '--pid', 'me'], /^error: .*Not a whole number/],
  [['wait', '--timeout', '-1'], /^error: .*Not a number of seconds/],
  [['log', '--limit', '1e3'], /^error: .*Not a whole number/],
  [['commit', '.', 'latest'], /^error: 'latest' is not a transaction's number/],
  [['run', '.'], /^error: no command to run\n/],
  [['run', '.', '--'], /^error: no command to run\n/],
];

for (const [args, message] of WRONG) {
  test(`siteswap ${args.join(' ')}`, async () => {
    const { code, stdout, stderr } = await siteswap(args);
    assert.equal(code, 2);
    assert.equal(stdout, '');
    assert.match(stderr, message);
    assert.match(stderr, /^hint: /m);
    assert.doesNotMatch(stderr, /\n\s+at /, 'no stack');
  });
}

test('siteswap alone shows what there is', async () => {
  const { code, stderr } = await siteswap([]);
  assert.equal(code, 2);
  for (const command of ['mount', 'unmount', 'run', 'begin', 'commit', 'abort', 'wait', 'status', 'log', 'doctor']) {
    assert.match(stderr, new RegExp(`^  ${command}\\b`, 'm'));
  }
});

test('--help and --version are data', async () => {
  const help = await siteswap(['mount', '--help']);
  assert.equal(help.code, 0);
  assert.match(help.stdout, /--store <DIR>/);
  const version = await siteswap(['--version']);
  assert.match(version.stdout, /^\d+\.\d+\.\d+\n$/);
});
