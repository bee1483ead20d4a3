/**
 * A thousand processes that stay at an old generation: readers of the newest one pay for the root names in which the two
 * differ, and for nothing else, whether one process is pinned or a thousand are; and for nothing when they have gone.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ControlClient } from '../../src/daemon/control-client.js';
import { defaultStorePath } from '../../src/store/layout.js';
import { Holders } from '../helpers/holders.js';
import { mountedVenv, until } from '../helpers/mounted-venv.js';
import { countRequests, fewest, showCounts, type RequestCounts } from '../helpers/request-counts.js';
import { PIP_INSTALL, versionedWheel } from '../helpers/versioned-package.js';
import { buildWheel } from '../helpers/wheel.js';

const TIMEOUT_MS = 5 * 60_000;
const PINNED = 1000;
const MODULES = 50;
const ASKED = 4_000;
/** The least of so many counts: what else the machine does adds time, and for longer than one round. */
const ROUNDS = 7;
/** Above what a busy machine makes of two equal costs, and far below what a loop over all pins would cost. */
const MOST_RATIO = 3;

const IMPORT = `import ${Array.from({ length: MODULES }, (_, i) => `PACKAGE.part_${i}`).join(', ')}`;
/** Names that differ between the generations are asked for each time. */
const ASK = `
import os, sys, time
begun = time.monotonic()
for _ in range(${ASKED}): os.stat(sys.argv[1])
print(time.monotonic() - begun)
`;

/** Time on the CPU of all its threads. */
function cpuMs(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  const ran = threads.map((thread) => readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]);
  return ran.reduce((sum, ns) => sum + Number(ns) / 1e6, 0);
}

test(`${PINNED} pinned processes`, { timeout: TIMEOUT_MS }, async (t) => {
  const modules = (name: string): Record<string, string> =>
    Object.fromEntries(Array.from({ length: MODULES }, (_, i) => [`${name}/part_${i}.py`, `N = ${i}\n`]));
  const files = { 'other/__init__.py': '', ...modules('other') };
  const mounted = await mountedVenv(t, {
    prepare: async (venv, work) => {
      const wheels = [
        versionedWheel(work, { version: '1.0.0', serial: 0 }, MODULES),
        buildWheel({ name: 'other', version: '1.0', files, dir: work }),
      ];
      await venv.run('pip', [...PIP_INSTALL, ...wheels]);
    },
  });
  const daemon = await ControlClient.connect(defaultStorePath(mounted.site));
  t.after(() => daemon.close());
  const { serverPid } = await daemon.request('status', {});
  const pinsBehind = async (): Promise<number> => {
    const { pins, generation } = await daemon.request('status', {});
    return pins.filter((pin) => pin.generation !== generation).length;
  };

  const install = async (serial: number): Promise<number> => {
    const begun = Date.now();
    const version = `${serial}.0.0`;
    await mounted.must('pip', ...PIP_INSTALL, versionedWheel(mounted.work, { version, serial }, MODULES));
    await mounted.settle();
    return Date.now() - begun;
  };
  const importing = async (name: string): Promise<RequestCounts> => {
    const program = IMPORT.replaceAll('PACKAGE', name);
    const once = (): Promise<string> => mounted.must(mounted.python, '-c', program);
    await once();
    await once();
    const rounds: RequestCounts[] = [];
    for (let round = 0; round < 3; round++) rounds.push(await countRequests(daemon, once));
    return fewest(rounds);
  };
  const measure = async () => {
    const changed = await importing('pkg.deep');
    const unchanged = await importing('other');
    const rounds: { lookups: number; cpuUs: number; wallUs: number }[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      let ranMs = 0;
      let wallS = 0;
      const requests = await countRequests(daemon, async () => {
        // Not with the counting: that is a `status`, which describes every pinned process.
        const before = cpuMs(serverPid);
        wallS = Number(await mounted.must(mounted.python, '-S', '-c', ASK, `${mounted.site}/pkg`));
        ranMs = cpuMs(serverPid) - before;
      });
      rounds.push({
        lookups: requests['LOOKUP'] ?? 0,
        cpuUs: (ranMs * 1000) / ASKED,
        wallUs: (wallS * 1e6) / ASKED,
      });
    }
    const least = (of: keyof (typeof rounds)[number]): number => Math.min(...rounds.map((round) => round[of]));
    return { changed, unchanged, lookups: least('lookups'), cpuUs: least('cpuUs'), wallUs: least('wallUs') };
  };
  const show = (name: string, found: Awaited<ReturnType<typeof measure>>): void =>
    t.diagnostic(
      `${name}: a changed package: ${showCounts(found.changed)}; an unchanged one: ${showCounts(found.unchanged)}; ` +
        `one lookup: ${found.wallUs.toFixed(1)} µs, ${found.cpuUs.toFixed(1)} µs of the server's CPU`,
    );

  const nobody = await measure();
  show('nobody pinned', nobody);
  assert.equal(nobody.lookups, 0);

  const one = await Holders.start(mounted, 1);
  await install(2);
  assert.equal(await pinsBehind(), 1);
  const withOne = await measure();
  show('one process pinned', withOne);
  assert.ok(withOne.lookups >= ASKED);
  await one.end();
  await until('nobody is pinned to the old generation', async () => (await pinsBehind()) === 0);

  const begun = Date.now();
  const many = await Holders.start(mounted, PINNED);
  const startedMs = Date.now() - begun;
  const installMs = await install(3);
  assert.equal(await pinsBehind(), PINNED);
  t.diagnostic(`${PINNED} processes listed the root in ${startedMs} ms; then pip install took ${installMs} ms`);
  const withMany = await measure();
  show(`${PINNED} processes pinned`, withMany);
  assert.ok(withMany.lookups >= ASKED);

  // Names that did not change are still the kernel's, and so are the root's own attributes and its listing.
  for (const found of [withOne, withMany]) {
    for (const name of Object.keys(found.unchanged)) {
      assert.ok(found.unchanged[name]! <= (nobody.unchanged[name] ?? 0), `${name}: ${showCounts(found.unchanged)}`);
    }
    for (const name of Object.keys(found.changed)) {
      if (name === 'LOOKUP') continue;
      assert.ok(found.changed[name]! <= (nobody.changed[name] ?? 0), `${name}: ${showCounts(found.changed)}`);
    }
  }
  assert.deepEqual(withMany.changed, withOne.changed, 'a thousand pins cost requests that one does not');
  assert.deepEqual(withMany.unchanged, withOne.unchanged);
  const ratio = { wall: withMany.wallUs / withOne.wallUs, cpu: withMany.cpuUs / withOne.cpuUs };
  t.diagnostic(`${PINNED} pins against one: × ${ratio.wall.toFixed(2)} time, × ${ratio.cpu.toFixed(2)} of the CPU`);
  assert.ok(ratio.cpu < MOST_RATIO && ratio.wall < MOST_RATIO);

  await many.end();
  await until('nobody is pinned to the old generation', async () => (await pinsBehind()) === 0);
  const after = await measure();
  show('they have gone', after);
  assert.equal(after.lookups, 0);
  assert.deepEqual(after.unchanged, nobody.unchanged);
  await mounted.unmount();
});
