/**
 * The C++ tests of the addon's parts, built with sanitizers and run by `test/native/Makefile`: here so that they are part
 * of the one test run.
 */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

test('make check: address, undefined-behaviour and thread sanitizers', () => {
  const { status, stdout, stderr } = spawnSync('make', ['-C', 'test/native', 'check'], {
    encoding: 'utf8',
    maxBuffer: 64 << 20,
  });
  assert.equal(status, 0, `${stdout}${stderr}`);
});
