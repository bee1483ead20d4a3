/**
 * The barrier: `pip install x && python -c 'import x'` always sees x. Two hundred times in a row, in one shell each,
 * each time with another build, with real pip.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { mountedVenv, type MountedVenvOptions } from '../helpers/mounted-venv.js';
import { PIP_INSTALL, serialText, versionedWheel } from '../helpers/versioned-package.js';

const TIMEOUT_MS = 5 * 60_000;

async function installThenImport(t: TestContext, options: MountedVenvOptions, times: number): Promise<void> {
  const mounted = await mountedVenv(t, options);
  const check = "import pkg.sub, importlib.metadata as m; print(pkg.SERIAL, pkg.sub.SERIAL, m.version('pkg'))";
  const begun = Date.now();
  for (let serial = 1; serial <= times; serial++) {
    const version = serial % 2 === 1 ? '1.0.0' : '2.0.0';
    const wheel = versionedWheel(mounted.work, { version, serial });
    const script = `pip ${PIP_INSTALL.join(' ')} --no-compile '${wheel}' && python -c "${check}"`;
    const { code, stdout, stderr } = await mounted.venv.run('/bin/sh', ['-c', script]);
    const text = serialText(serial);
    assert.deepEqual([code, stdout.trim(), stderr.trim()], [0, `${text} ${text} ${version}`, ''], mounted.serverLog());
  }
  t.diagnostic(`${times} × pip install && import in ${((Date.now() - begun) / 1000).toFixed(1)} s`);
  const { generation, counters } = await mounted.status();
  assert.equal(generation, times);
  assert.equal(counters.parked, 0);
  await mounted.unmount();
}

test('pip install x && import x, 200 times', { timeout: TIMEOUT_MS }, (t) => installThenImport(t, {}, 200));

for (const disable of ['epoch', 'no-open', 'pidfd-info']) {
  test(`pip install x && import x, 10 times, without ${disable}`, { timeout: TIMEOUT_MS }, (t) =>
    installThenImport(t, { disable }, 10),
  );
}
