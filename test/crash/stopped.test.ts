/** A process of ours that is stopped (SIGSTOP; stuck in the kernel looks the same) is in the way of nobody for ever. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MountedSite, needsFuse } from '../helpers/mounted-site.js';
import { until } from '../helpers/mounted-venv.js';

test('the keeper is stopped: the server unmounts', needsFuse, async (t) => {
  const site = await MountedSite.mounted(t);
  const keeper = site.daemons().keeper[0]!;
  process.kill(keeper, 'SIGSTOP');
  const unmounting = site.try(['unmount', site.dir]);
  try {
    await until('it is unmounted', () => !site.isMounted);
  } finally {
    process.kill(keeper, 'SIGCONT');
  }
  const { code, stderr } = await unmounting;
  assert.equal(code, 0, stderr);
  await site.untilNoDaemon();
});
