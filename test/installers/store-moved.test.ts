/** What somebody does to the store behind a mount: moved, it is served on; what is taken away from it is an error. */
import assert from 'node:assert/strict';
import { renameSync, rmSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { defaultStorePath } from '../../src/store/layout.js';
import { mountedVenv, type MountedVenv } from '../helpers/mounted-venv.js';

const TIMEOUT_MS = 3 * 60_000;

/** With a new process, so that nothing is known of before. */
function read(mounted: MountedVenv, name: string): Promise<string> {
  const script = `
try:
    print(open('${mounted.site}/${name}').read())
except OSError as error:
    print(error.errno)
`;
  return mounted.must('python', '-c', script).then((text) => text.trim());
}

const EIO = '5';

test('a store that is moved, and one that loses a file', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t, { pip: false });
  const put = (name: string): Promise<string> =>
    mounted.must('python', '-c', `open('${mounted.site}/${name}', 'w').write('here')`);
  await put('one.txt');
  await put('two.txt');
  await mounted.settle();
  // Another server, which has none of them open.
  await mounted.siteswap('unmount', mounted.mountpoint);
  await mounted.mount();

  const store = defaultStorePath(mounted.mountpoint);
  const elsewhere = join(mounted.work, 'elsewhere');
  renameSync(store, elsewhere);
  try {
    assert.equal(await read(mounted, 'one.txt'), 'here');
  } finally {
    renameSync(elsewhere, store);
  }
  const layers = join(store, 'layers');
  for (const layer of readdirSync(layers)) {
    for (const body of readdirSync(join(layers, layer))) rmSync(join(layers, layer, body));
  }
  assert.equal(await read(mounted, 'two.txt'), EIO);
  await mounted.unmount();
});
