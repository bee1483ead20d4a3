/**
 * Where a mount differs from a plain directory by design, each with the reason, and where it does not. All of it is about what a process holds
 * from before its own first change (`standing.py`): until then it looks at committed nodes, which everybody shares, and
 * a transaction has nodes of its own. The kernel leads a path, but no descriptor, from the one to the other.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { EngineMount } from '../helpers/engine-mount.js';
import { makeWorkplace, python } from './python.js';

interface Row {
  plain: unknown;
  mount: unknown;
  why: string;
}

const AT_THE_PATH = "no difference there: the transaction's file gets them; the descriptor shows the committed file's";
const SAME = 'no difference';

const TABLE: Record<string, Row> = {
  'the number of a file stays': {
    plain: true,
    mount: false,
    why: 'a member sees nodes of its own, with their numbers',
  },
  'a write by descriptor shows at the path': {
    plain: 'Wello lower\n',
    mount: 'hello lower\n',
    why: 'it goes to the live layer, as any write in place: others see it, a transaction works on the committed tree',
  },
  fchmod: { plain: null, mount: null, why: AT_THE_PATH },
  futimens: { plain: null, mount: null, why: AT_THE_PATH },
  fsetxattr: { plain: null, mount: null, why: AT_THE_PATH },
  'a write by path shows at the descriptor': {
    plain: 'by path',
    mount: 'second\n',
    why: "the descriptor goes on with the committed file's bytes",
  },
  'creating in the cwd': { plain: ['c.txt', 'x'], mount: ['c.txt', 'x'], why: SAME },
  'listing the cwd': { plain: ['c.txt', 'x'], mount: ['c.txt', 'x'], why: SAME },
  'a change by path shows in a listing by descriptor': { plain: true, mount: true, why: SAME },
  'listing the root by descriptor': { plain: true, mount: true, why: SAME },
  'the path of the cwd follows a rename': {
    plain: 'sub2/deep',
    mount: 'sub/deep',
    why: 'the committed directory that it stands in was not renamed',
  },
  'creating in the cwd after that': { plain: null, mount: 'ENOENT', why: 'led by path, and nothing is there any more' },
  'listing a renamed directory by descriptor': {
    plain: ['b.txt', 'deep'],
    mount: [],
    why: 'led by path, to the directory that is there now',
  },
};

function column(which: 'plain' | 'mount'): Record<string, unknown> {
  return Object.fromEntries(Object.entries(TABLE).map(([name, row]) => [name, row[which]]));
}

test('a plain directory', async () => {
  const place = makeWorkplace();
  try {
    await python('posix_checks.py', ['prepare', place.directory, '1']);
    assert.deepEqual(JSON.parse(await python('standing.py', [place.directory])), column('plain'));
  } finally {
    place.remove();
  }
});

test('a mount', async () => {
  const place = makeWorkplace();
  let mount: EngineMount | null = null;
  try {
    await python('posix_checks.py', ['prepare', place.directory, '1']);
    mount = await EngineMount.open({ directory: place.directory, store: place.store });
    assert.deepEqual(JSON.parse(await python('standing.py', [place.directory])), column('mount'));
    assert.equal((await mount.settled()).generation, 1);
    assert.deepEqual(await mount.close(), []);
  } finally {
    await mount?.close();
    place.remove();
  }
});
