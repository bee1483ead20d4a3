import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { createLog } from '../../src/daemon/log.js';
import { temporaryDirectory } from '../helpers/fake-store.js';

/** A pipe: writes to it fail while it is full. */
function pipe(t: TestContext): number {
  const path = join(temporaryDirectory(t), 'pipe');
  execFileSync('mkfifo', [path]);
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  t.after(() => closeSync(fd));
  return fd;
}

function drain(fd: number): string {
  const buffer = Buffer.alloc(1 << 20);
  return buffer.toString('utf8', 0, readSync(fd, buffer));
}

function fill(fd: number): void {
  assert.throws(
    () => {
      for (;;) writeSync(fd, 'x'.repeat(4096));
    },
    { code: 'EAGAIN' },
  );
}

test('lines that could not be written are counted, and the next one says so', (t) => {
  const fd = pipe(t);
  const log = createLog(fd, 'server');
  log('first');
  assert.match(drain(fd), /^\d{4}-\S+Z server: first\n$/);
  fill(fd);
  log('lost');
  log('lost');
  drain(fd);
  log('second');
  log('third');
  assert.match(drain(fd), /^\S+ server: 2 lines were lost here\n\S+ server: second\n\S+ server: third\n$/);
});

test('a line of which a part was written is ended before the next', (t) => {
  const fd = pipe(t);
  const log = createLog(fd, 'keeper');
  // Longer than PIPE_BUF, so that the pipe takes as much of it as it has room for.
  log('long'.repeat(50_000));
  assert.match(drain(fd), /^\S+ keeper: (long)+\w*$/);
  log('short');
  assert.match(drain(fd), /^\n\S+ keeper: 1 line was lost here\n\S+ keeper: short\n$/);
});

test('nobody obeys what somebody else has called a file', (t) => {
  const fd = pipe(t);
  createLog(fd, 'server')('\u001b]0;x\u0007');
  assert.match(drain(fd), /server: \?\]0;x\?\n$/);
});
