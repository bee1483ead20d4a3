/** Who waits for a decision may hold locks of the kernel that whoever decides would need on the same mount. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { mountedVenv, until } from '../helpers/mounted-venv.js';

/** The barrier gives up after a minute: a verifier that stands still would be seen by that. */
const LIMIT_MS = 45_000;

test('a program goes on writing while what it wrote is verified', { timeout: 300_000 }, async (t) => {
  const mounted = await mountedVenv(t, { pip: false });
  const go = join(mounted.work, 'go');
  await mounted.unmount();
  // The test is on its way when the program writes again; only then does it look at the tree.
  const check = `import os, time
while not os.path.exists(${JSON.stringify(go)}): time.sleep(0.05)
time.sleep(1)
assert 'one.py' in os.listdir(${JSON.stringify(mounted.site)}), os.listdir(${JSON.stringify(mounted.site)})
assert open(${JSON.stringify(join(mounted.site, 'package/inside.py'))}).read() == ''`;
  await mounted.mount(['--verify', 'record', '--check', `exec ${mounted.python} -c "${check.replaceAll('"', "'")}"`]);
  const program = `import os, sys, time
site, = sys.argv[1:]
os.mkdir(site + '/package')
open(site + '/package/inside.py', 'w').close()
open(site + '/one.py', 'w').close()
inside = os.open(site + '/package', os.O_DIRECTORY)
sys.stdin.readline()
# Quiet until it is being verified; then in the root, and in a directory that it holds, both of which are locked meanwhile.
if os.fork() == 0:
    os.close(os.open('late.py', os.O_CREAT | os.O_WRONLY, dir_fd=inside))
    os._exit(0)
open(site + '/two.py', 'w').close()
os.wait()`;
  const writer = mounted.start(mounted.python, ['-Ic', program, mounted.site]);
  await until('it is being verified', async () => {
    const { transactions } = await mounted.status();
    return transactions.some(({ step }) => step === 'verify test');
  });
  writer.stdin!.write('\n');
  await until('it writes again', async () => (await mounted.status()).counters.parked > 0);
  await mounted.must('/usr/bin/touch', go);
  const since = Date.now();
  await until('the first part is committed', async () => (await mounted.status()).generation >= 1, LIMIT_MS);
  t.diagnostic(`committed after ${Date.now() - since} ms`);
  await until('the rest is committed', async () => (await mounted.status()).generation >= 2, LIMIT_MS);
  await mounted.must(mounted.python, '-c', 'import one, two, package.inside, package.late');
  assert.ok(!mounted.serverLog().includes('waited long enough'), mounted.serverLog());
  await mounted.unmount();
});
