/** A large file that is in no cache: read in order it is read ahead, and kept once, not here and below. */

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';

import { EngineMount } from '../helpers/engine-mount.js';
import { makeWorkplace, python } from './python.js';

/** Of the file below, what the requests before a run have read ahead by the kernel's own means. */
const LITTLE_BYTES = 4 << 20;

test('a large file, cold', { timeout: 120_000 }, async (t) => {
  const place = makeWorkplace();
  t.after(() => place.remove());
  const { directory, store } = place;
  const file = join(directory, 'large.bin');
  await python('large_file.py', ['make', file]);
  const plain = await python('large_file.py', ['read', file]);
  await python('large_file.py', ['make', file]);
  const canLeave = (await python('large_file.py', ['can-leave', file])).trim() === 'True';

  const mount = await EngineMount.open({ directory, store });
  try {
    assert.equal(await python('large_file.py', ['read', file]), plain);
    assert.equal(await python('large_file.py', ['read', file]), plain, 'from the cache');
    const below = Number(await python('large_file.py', ['resident', join(mount.lowerPath, 'large.bin')]));
    if (canLeave) {
      assert.ok(below <= LITTLE_BYTES, `${below} bytes of the file below are cached as well`);
    } else {
      t.diagnostic(`RWF_DONTCACHE does not work here: ${below} bytes are cached below`);
    }
  } finally {
    assert.deepEqual(await mount.close(), []);
  }
});
