/**
 * `pip install` killed with SIGKILL at 25 evenly spaced points of its life: nobody can tell that it ever ran.
 *
 * The life is measured first, in time on the CPU, so that a busy machine does not move the points. One that comes after
 * the end all the same is counted, and that run has to have committed.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { killTree, mountedVenv, type MountedVenv } from '../helpers/mounted-venv.js';
import { diffTrees } from '../helpers/tree-hash.js';
import { PIP_INSTALL, versionedWheel } from '../helpers/versioned-package.js';

const POINTS = 25;
const MODULES = 300;
const TIMEOUT_MS = 10 * 60_000;

interface Run {
  cpuMs: number;
  killed: boolean;
}

/** Of its first thread. */
function cpuMs(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1e6;
}

/** It is killed when it has run for `killAtMs` on the CPU, with all its children. */
async function pip(mounted: MountedVenv, wheel: string, killAtMs: number): Promise<Run> {
  const child = mounted.start('pip', [...PIP_INSTALL, wheel]);
  const run: Run = { cpuMs: 0, killed: false };
  const ended = new Promise<void>((resolve) => {
    child.once('exit', (_, signal) => {
      run.killed = signal !== null;
      resolve();
    });
  });
  while (child.exitCode === null && child.signalCode === null) {
    try {
      run.cpuMs = Math.max(run.cpuMs, cpuMs(child.pid!));
    } catch {
      break; // It has ended.
    }
    if (run.cpuMs >= killAtMs) {
      killTree(child.pid!);
      break;
    }
    await sleep(1);
  }
  await ended;
  return run;
}

test(`pip killed at ${POINTS} points of its life changes nothing`, { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t, {
    prepare: async (venv, work) => {
      await venv.run('pip', [...PIP_INSTALL, versionedWheel(work, { version: '1.0.0', serial: 0 }, MODULES)]);
    },
  });
  const wheels = [1, 2].map((serial) => versionedWheel(mounted.work, { version: `${serial}.0.0`, serial }, MODULES));
  // Twice: the first run after a mount finds cold caches.
  let lifeMs = 0;
  for (const wheel of wheels) {
    const whole = await pip(mounted, wheel, Infinity);
    assert.equal(whole.killed, false);
    lifeMs = whole.cpuMs;
  }
  const wheel = wheels[0]!;

  let before = await mounted.listing();
  let { generation } = await mounted.status();
  let late = 0;
  for (let point = 0; point < POINTS; point++) {
    const at = ((point + 0.5) / POINTS) * lifeMs;
    const { killed, cpuMs } = await pip(mounted, wheel, at);
    // No `wait`: the very next reader must see the tree whole.
    const after = await mounted.listing();
    if (killed) {
      assert.deepEqual(
        diffTrees(before, after),
        [],
        `killed after ${at.toFixed(0)} ms on the CPU${mounted.serverLog()}`,
      );
    } else {
      late++;
      // The same work takes more of a busy CPU: a life is as short as the shortest.
      lifeMs = Math.min(lifeMs, cpuMs);
      const status = await mounted.status();
      assert.equal(status.generation, ++generation, 'it ended before the kill and yet was not committed');
      before = after;
    }
  }
  await mounted.settle();
  assert.deepEqual((await mounted.status()).transactions, []);
  const inTransaction = mounted.serverLog(1000).split('is dropped: it was killed').length - 1;
  t.diagnostic(
    `pip lives ${lifeMs.toFixed(0)} ms on the CPU; ${POINTS - late} of ${POINTS} kills hit it, ${inTransaction} of them ` +
      `with a transaction open; ${before.size} entries compared each time`,
  );
  assert.ok(late < POINTS / 5, 'too many kills came after the end');
  assert.ok(inTransaction >= 5, 'too few kills hit an open transaction');
  await mounted.unmount();
});
