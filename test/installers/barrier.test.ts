/**
 * The barrier: `pip install x && python -c 'import x'` always sees x. Two hundred times in a row, each in a shell of its own
 * and with another build: 40 with real pip, the others with a small installer that is one by its name, so that many more
 * ends of an installer are met in the same time.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { mountedVenv, writeScript, type MountedVenv, type MountedVenvOptions } from '../helpers/mounted-venv.js';
import { PIP_INSTALL, serialText, versionedWheel } from '../helpers/versioned-package.js';

const TIMEOUT_MS = 10 * 60_000;
const CHECK = "import pkg.sub, importlib.metadata as m; print(pkg.SERIAL, pkg.sub.SERIAL, m.version('pkg'))";

/** Takes the old version away and unpacks the wheel, file by file. */
const SMALL_INSTALLER = `
import glob, shutil, sys, zipfile
site, wheel = sys.argv[1:]
for old in [*glob.glob(site + '/pkg-*.dist-info'), *glob.glob(site + '/pkg')]:
    shutil.rmtree(old)
zipfile.ZipFile(wheel).extractall(site)
`;

type Installer = (mounted: MountedVenv, wheel: string) => string;

const pip: Installer = (_, wheel) => `pip ${PIP_INSTALL.join(' ')} --no-compile '${wheel}'`;

const small: Installer = (mounted, wheel) => {
  const script = writeScript(mounted, 'setup.py', SMALL_INSTALLER);
  return `python -I '${script}' '${mounted.site}' '${wheel}'`;
};

async function installThenImport(
  t: TestContext,
  options: MountedVenvOptions,
  plan: readonly { by: Installer; times: number }[],
): Promise<void> {
  const mounted = await mountedVenv(t, options);
  let serial = 0;
  for (const { by, times } of plan) {
    const begun = Date.now();
    for (const end = serial + times; serial < end;) {
      const version = ++serial % 2 === 1 ? '1.0.0' : '2.0.0';
      const install = by(mounted, versionedWheel(mounted.work, { version, serial }));
      const { code, stdout, stderr } = await mounted.venv.run('/bin/sh', ['-c', `${install} && python -c "${CHECK}"`]);
      const text = serialText(serial);
      const expected = [0, `${text} ${text} ${version}`, ''];
      assert.deepEqual([code, stdout.trim(), stderr.trim()], expected, mounted.serverLog());
    }
    t.diagnostic(`${times} × ${by.name} install && import in ${((Date.now() - begun) / 1000).toFixed(1)} s`);
  }
  const { generation, counters, transactions } = await mounted.status();
  assert.deepEqual([generation, counters.parked, transactions], [serial, 0, []]);
  await mounted.unmount();
}

test('install x && import x, 200 times', { timeout: TIMEOUT_MS }, (t) =>
  installThenImport(t, {}, [
    { by: pip, times: 40 },
    { by: small, times: 160 },
  ]),
);

for (const disable of ['epoch', 'no-open', 'pidfd-info']) {
  test(`install x && import x, 25 times, without ${disable}`, { timeout: TIMEOUT_MS }, (t) =>
    installThenImport(t, { disable }, [
      { by: pip, times: 5 },
      { by: small, times: 20 },
    ]),
  );
}
