/**
 * What verification asks of the host: no rights that the installer lacks, little time beside the install, and nothing that goes
 * on when the server is gone.
 */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import * as v from 'valibot';
import { methods } from '../../src/daemon/control-protocol.js';
import { notRun, SITESWAP } from '../helpers/mounted-site.js';
import { mountedVenv, until } from '../helpers/mounted-venv.js';
import { ORDINARY_UID, ordinaryPython, ordinaryUserProblem } from '../helpers/private-namespace.js';
import { makeVenv, runProgram } from '../helpers/venv.js';
import {
  assertRunRefused,
  childrenOf,
  installedBefore,
  processesWith,
  runInstall,
  wheelOf,
} from '../helpers/verified-venv.js';
import { PIP_INSTALL } from '../helpers/versioned-package.js';

const TIMEOUT_MS = 10 * 60_000;

test(
  "root's daemon, an ordinary user's install: the import can't read what the user can't",
  { timeout: TIMEOUT_MS },
  async (t) => {
    const probe = realpathSync(mkdtempSync(join(tmpdir(), 'siteswap-rights-')));
    t.after(() => rmSync(probe, { recursive: true, force: true }));
    chmodSync(probe, 0o755);
    const problem = await ordinaryUserProblem(probe);
    const python = problem === null ? await ordinaryPython(probe) : null;
    if (python === null) return notRun(t, problem ?? 'there is no Python with venv that an ordinary user may run');

    // Environments are made with the first `python3`.
    const bin = join(probe, 'bin');
    mkdirSync(bin);
    writeFileSync(join(bin, 'python3'), `#!/bin/sh\nexec ${python} "$@"\n`, { mode: 0o755 });
    const path = process.env['PATH'];
    process.env['PATH'] = `${bin}:${path}`;
    t.after(() => (process.env['PATH'] = path));

    const secret = join(probe, 'secret');
    writeFileSync(secret, 'for root only', { mode: 0o600 });
    const more = `
import os
with open('/proc/self/status') as status:
    rights = [line.split()[1] for line in status if line.startswith(('CapEff', 'CapPrm'))]
who = f'{os.getresuid()} {os.getresgid()} {os.getgroups()} {rights}'
try:
    said = open(${JSON.stringify(secret)}).read()
except OSError as error:
    said = error.strerror
raise RuntimeError(f'{who}: {said}')
`;
    const mounted = await mountedVenv(t, {
      prepare: async (venv, work) => {
        chmodSync(work, 0o755);
        await installedBefore((dir) => wheelOf(dir, 'curious', '1.0'))(venv, work);
        const owner = `${ORDINARY_UID}:${ORDINARY_UID}`;
        assert.equal((await runProgram('chown', ['-R', owner, venv.sitePackages])).code, 0);
      },
    });
    const wheel = wheelOf(mounted.work, 'curious', '2.0', { more });
    const ids = [`--reuid=${ORDINARY_UID}`, `--regid=${ORDINARY_UID}`, '--clear-groups'];
    const pip = [...ids, mounted.python, '-m', 'pip', '--no-cache-dir', ...PIP_INSTALL, wheel];
    const env = { ...mounted.venv.env, HOME: mounted.work };
    const { code, stderr } = await runProgram('setpriv', pip, { env });
    assert.equal(code, 0, stderr + mounted.serverLog());
    await mounted.settle();
    const [refused] = (await mounted.status()).transactions;
    const ids3 = `\\(${ORDINARY_UID}, ${ORDINARY_UID}, ${ORDINARY_UID}\\)`;
    const none = "\\['0{16}', '0{16}'\\]";
    const groups = `\\[(${ORDINARY_UID})?\\]`;
    assert.match(
      refused?.reason ?? mounted.serverLog(),
      new RegExp(`^importing curious failed: RuntimeError: ${ids3} ${ids3} ${groups} ${none}: Permission denied `),
    );
    // The same, installed by root: it is the rights that make the difference.
    assertRunRefused(await runInstall(mounted, wheel), /RuntimeError: \(0, 0, 0\) .*: for root only /);
  },
);

/** Where no group can be dropped: /proc/self/setgroups says "deny". */
test(
  'in a user namespace without root: a broken package is refused as elsewhere',
  { timeout: TIMEOUT_MS },
  async (t) => {
    // Root may have none that it could fail to drop.
    const groups = process.getuid?.() === 0 ? ['setpriv', '--groups=4711'] : [];
    const rootless = [...groups, 'unshare', '--user', '--map-root-user', '--mount'];
    const possible = await runProgram('env', [...rootless, 'sh', '-c', ': <>/dev/fuse']);
    if (possible.code !== 0) return notRun(t, `a user namespace can't be used here: ${possible.stderr}`);
    const work = realpathSync(mkdtempSync(join(tmpdir(), 'siteswap-rootless-')));
    t.after(() => rmSync(work, { recursive: true, force: true }));
    const venv = makeVenv(join(work, 'venv'));
    await installedBefore((dir) => wheelOf(dir, 'demo', '1.0'))(venv, work);
    const wheel = wheelOf(work, 'demo', '2.0', { more: 'raise RuntimeError("broken")\n' });
    const script = `
    siteswap() { timeout 100 ${SITESWAP.map((word) => `'${word}'`).join(' ')} "$@"; }
    siteswap mount "$SITE" || exit 1
    siteswap run "$SITE" -- "$PYTHON" -m pip --no-cache-dir ${PIP_INSTALL.join(' ')} "$WHEEL"
    echo "run: $?"
    siteswap unmount --purge "$SITE"`;
    const { code, stdout, stderr } = await runProgram('env', [...rootless, 'bash', '-c', script], {
      env: { ...venv.env, SITE: venv.sitePackages, PYTHON: venv.python, WHEEL: wheel },
    });
    assert.equal(code, 0, stdout + stderr);
    assert.match(stderr, /importing demo failed: RuntimeError: broken/);
    assert.match(stdout, /^run: 120$/m);
  },
);

test('1,500 files: verified in well under the time of their install', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t, { mount: ['--commit', 'manual'] });
  const text = Array.from({ length: 150 }, (_, i) => `def function_${i}(x):\n    return x + ${i}\n`).join('\n');
  const files = Object.fromEntries(
    Array.from({ length: 1_500 }, (_, i) => [`big/part_${i % 30}/module_${i}.py`, `${text}# ${i}\n`]),
  );
  const wheel = wheelOf(mounted.work, 'big', '1.0', { files });
  const start = performance.now();
  const { code, stderr } = await mounted.venv.run('pip', [...PIP_INSTALL, wheel]);
  const pipMs = performance.now() - start;
  assert.equal(code, 0, stderr);
  await mounted.settle();
  const verifyStart = performance.now();
  const verdict = v.parse(methods.verify.result, JSON.parse(await mounted.siteswap('verify', mounted.site, '--json')));
  const commandMs = performance.now() - verifyStart;
  const checksMs = verdict.checks.reduce((sum, { durationMs }) => sum + durationMs, 0);
  const ratio = (ms: number): string => `${ms.toFixed(0)} ms, ${(ms / pipMs).toFixed(2)} of pip's`;
  t.diagnostic(`pip: ${pipMs.toFixed(0)} ms; checks: ${ratio(checksMs)}; with starting it all: ${ratio(commandMs)}`);
  assert.deepEqual(verdict.findings, []);
  assert.ok(checksMs < 0.6 * pipMs, `${checksMs} ms of ${pipMs}: ${JSON.stringify(verdict.checks)}`);
});

test('the server is killed while a verifier waits for a test: both end', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t);
  const mark = `siteswap-test-killed-${process.pid}`;
  const check = `: ${mark}; sleep 600 & wait`;
  const run = runInstall(mounted, wheelOf(mounted.work, 'demo', '1.0'), { options: ['--check', check] });
  // In the command lines of the sandbox and of the shell in it.
  const running = async (): Promise<number> => (await processesWith(`-c : ${mark}`)).length;
  await until('the test runs', async () => (await running()) > 1);
  const { serverPid } = await mounted.status();
  const [verifier] = childrenOf(serverPid);
  assert.ok(verifier, 'there is a verifier');
  process.kill(serverPid, 'SIGKILL');
  await until('the verifier has ended', () => !exists(verifier), 20_000);
  await until('what it started has ended', async () => (await running()) === 0, 20_000);
  assert.notEqual((await run).code, 0);
});

function exists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
