/** What the tables and texts of the commands look like. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dirAndTransaction, parsePid, parsePin, parseSeconds } from '../../src/cli/arguments.js';
import { doctorText } from '../../src/cli/commands/doctor.js';
import { logTable } from '../../src/cli/commands/log.js';
import { statusText } from '../../src/cli/commands/status.js';
import { fields, table } from '../../src/cli/output.js';
import { formatCommand } from '../../src/util/format-command.js';
import type { Status } from '../../src/daemon/control-protocol.js';

const STATUS: Status = {
  mountpoint: '/v/site-packages',
  store: '/v/.site-packages.siteswap',
  generation: 3,
  transactions: [],
  pins: [],
  health: [],
  features: ['epoch', 'no-open'],
  kernel: { minor: 45 },
  counters: { requests: { lookup: 5, getattr: 7 }, committedViewEvents: 0, parked: 0 },
  backend: 'native',
  commit: 'auto',
  serverPid: 77,
  version: '0.1.0',
};

test('--pin', () => {
  assert.equal(parsePin('process'), 'process');
  assert.equal(parsePin('none'), 'none');
  assert.deepEqual(parsePin('lease:90'), { leaseSeconds: 90 });
  for (const wrong of ['', 'lease', 'lease:', 'lease:0', 'lease:-1', 'lease:1.5', 'lease:1s', 'ever']) {
    assert.throws(() => parsePin(wrong), /lease:SECONDS/);
  }
});

test('table: aligned, nothing after the last column', () => {
  assert.equal(
    table([
      ['A', 'LONG'],
      ['wider', 'x'],
      ['b', 'yy'],
    ]),
    'A      LONG\nwider  x\nb      yy',
  );
});

test('fields: values below each other', () => {
  assert.equal(
    fields([
      ['a', '1'],
      ['long', '2'],
    ]),
    'a:     1\nlong:  2',
  );
});

test('formatCommand quotes and cuts', () => {
  assert.equal(formatCommand(['/v/bin/python', '/v/bin/pip', 'install', '/w']), 'python pip install /w');
  assert.equal(formatCommand(['pip', 'install', 'a b']), 'pip install "a b"');
  assert.equal(formatCommand(['x'.repeat(80)], 10), `${'x'.repeat(9)}…`);
});

test('status of a quiet mount', () => {
  const text = statusText(STATUS);
  assert.match(text, /^mounted over: {2}\/v\/site-packages$/m);
  assert.match(text, /^health: +good$/m);
  assert.match(text, /^backend: +native, FUSE 7.45, features: epoch no-open$/m);
  assert.match(text, /12 requests served/);
  assert.match(text, /No transaction\.\n\nNo reader\.$/);
});

test('status tells of trouble, transactions and why one was refused', () => {
  const text = statusText({
    ...STATUS,
    health: ['the lower was changed'],
    transactions: [
      {
        id: 1048577,
        state: 'refused',
        command: ['pip', 'install', 'demo'],
        rootPid: 12,
        members: [],
        mutations: 40,
        base: 2,
        step: null,
        reason: 'demo-2.0.dist-info has no RECORD',
      },
    ],
    pins: [{ pid: 9, generation: 2, command: 'python', sinceMs: 0, reason: 'moved' }],
  });
  assert.match(text, /^health: +the lower was changed$/m);
  assert.match(text, /^1048577 +refused +2 +40 +12 +pip install demo$/m);
  assert.match(text, /^1048577 was refused: demo-2.0.dist-info has no RECORD$/m);
  assert.match(text, /^9 +2 .* python$/m);
});

test('log: what each generation changed', () => {
  const base = { parent: null, createdMs: 0, transaction: null, uid: 0, entries: 5, warnings: ['x is odd'] };
  const packages = [
    { name: 'demo', from: '1.0', to: '2.0' },
    { name: 'new', from: null, to: '3' },
    { name: 'old', from: '4', to: null },
  ];
  const text = logTable([
    { ...base, generation: 1, reason: 'commit', command: ['pip', 'install'], packages },
    { ...base, generation: 0, reason: 'base', command: [], packages: [] },
  ]);
  assert.match(text, /^1 .* commit +demo 1.0 → 2.0, new 3 \(new\), old 4 \(removed\) +pip install$/m);
  assert.match(text, /^0 .* base +- +-$/m);
  const many = Array.from({ length: 17 }, (_, i) => ({ name: `p${i}`, from: null, to: '1' }));
  const long = logTable([{ ...base, generation: 1, reason: 'commit', command: ['uv'], packages: many }]);
  assert.match(long, / p3 1 \(new\), and 13 more +uv$/m);
});

test('doctor says what fails and what to do', () => {
  const text = doctorText({
    usable: false,
    checks: [
      { name: 'kernel', ok: true, required: true, detail: '6.18', hint: 'not shown' },
      { name: '/dev/fuse', ok: false, required: true, detail: 'missing', hint: 'modprobe fuse' },
    ],
    features: [{ name: 'epoch', available: false, gives: 'speed', otherwise: 'more requests' }],
  });
  assert.match(text, /^ok +kernel +6.18$/m);
  assert.match(text, /^FAIL +\/dev\/fuse +missing$/m);
  assert.match(text, /^\/dev\/fuse: modprobe fuse$/m);
  assert.match(text, /^no +epoch +more requests$/m);
  assert.doesNotMatch(text, /not shown/);
  assert.match(text, /can NOT be used/);
});

test('[DIR] [ID]', () => {
  assert.deepEqual(dirAndTransaction(undefined, undefined), { dir: undefined, transaction: undefined });
  assert.deepEqual(dirAndTransaction('17', undefined), { dir: undefined, transaction: 17 });
  assert.deepEqual(dirAndTransaction('./17', undefined), { dir: './17', transaction: undefined });
  assert.deepEqual(dirAndTransaction('dir', '17'), { dir: 'dir', transaction: 17 });
  assert.throws(() => dirAndTransaction('dir', '0'));
});

test('numbers', () => {
  assert.equal(parsePid('4194304'), 4194304);
  assert.throws(() => parsePid('4194305'));
  assert.equal(parseSeconds('1.5'), 1500);
  assert.throws(() => parseSeconds('1e3'));
});
