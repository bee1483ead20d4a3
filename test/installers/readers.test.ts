/**
 * Readers while installers work: no process ever sees parts of two builds, or none, or goes back to an older one.
 * Fifty alternating installs of two versions, by pip from wheels and by `setup.py install`.
 */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { mountedVenv, type MountedVenv, type MountedVenvOptions } from '../helpers/mounted-venv.js';
import { PIP_INSTALL, Readers, SETUP_INSTALL, versionedSource, versionedWheel } from '../helpers/versioned-package.js';

const VERSIONS = ['1.0.0', '2.0.0'] as const;
const TIMEOUT_MS = 10 * 60_000;

type Install = (mounted: MountedVenv, serial: number) => Promise<void>;

/** Every other pip install leaves the bytecode to the readers. */
const byPip: Install = async (mounted, serial) => {
  const wheel = versionedWheel(mounted.work, { version: VERSIONS[serial % 2]!, serial });
  await mounted.must('pip', ...PIP_INSTALL, ...(serial % 4 < 2 ? ['--no-compile'] : []), wheel);
};

const bySetup: Install = async (mounted, serial) => {
  const cwd = versionedSource(mounted.work, { version: VERSIONS[serial % 2]!, serial });
  const args = [...SETUP_INSTALL, ...(serial % 4 < 2 ? ['--no-compile'] : [])];
  const { code, stderr } = await mounted.venv.run(mounted.python, args, { cwd });
  assert.equal(code, 0, stderr);
};

interface Plan {
  readers: number;
  installs: readonly { by: Install; count: number }[];
}

async function readersWhileInstalling(t: TestContext, options: MountedVenvOptions, plan: Plan): Promise<void> {
  const mounted = await mountedVenv(t, {
    ...options,
    prepare: async (venv, work) => {
      await venv.run('pip', [...PIP_INSTALL, versionedWheel(work, { version: '1.0.0', serial: 0 })]);
    },
  });
  const readers = new Readers(mounted, plan.readers);
  let serial = 0;
  const begun = Date.now();
  try {
    for (const { by, count } of plan.installs) {
      for (const end = serial + count; serial < end;) {
        await by(mounted, ++serial);
        // The barrier: whoever starts after the installer has ended sees what it installed.
        assert.equal(await readers.read(), serial, readers.failures.join('\n') + mounted.serverLog());
      }
    }
  } finally {
    await readers.stop();
  }
  const seconds = ((Date.now() - begun) / 1000).toFixed(1);
  t.diagnostic(`${readers.total} observations of ${readers.bySerial.size} builds in ${seconds} s, ${serial} installs`);
  assert.deepEqual(readers.failures, []);
  assert.deepEqual((await mounted.status()).transactions, []);
  await mounted.unmount();
}

test('50 alternating installs by pip and setup.py, three readers at once', { timeout: TIMEOUT_MS }, (t) =>
  readersWhileInstalling(
    t,
    {},
    {
      readers: 3,
      installs: [
        { by: byPip, count: 25 },
        { by: bySetup, count: 25 },
      ],
    },
  ),
);

for (const disable of ['epoch', 'no-open', 'epoch,no-open,readdirplus,pidfd-info']) {
  test(`the same, shorter, without ${disable}`, { timeout: TIMEOUT_MS }, (t) =>
    readersWhileInstalling(
      t,
      { disable },
      {
        readers: 2,
        installs: [
          { by: byPip, count: 4 },
          { by: bySetup, count: 4 },
        ],
      },
    ),
  );
}
