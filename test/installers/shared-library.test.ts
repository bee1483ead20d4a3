/**
 * A large shared library that is swapped again and again while it is hashed, mapped and loaded (CVMFS had readers with
 * pages of two versions in such a case): there are two legal hashes, a descriptor and a mapping have one each, no process
 * is killed by SIGBUS, and loaded code stays what it was.
 *
 * A fifth of the swaps write the whole file; the others rename directories, in which the files keep their numbers and
 * what the kernel has cached of them.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { ControlClient } from '../../src/daemon/control-client.js';
import { defaultStorePath } from '../../src/store/layout.js';
import { mountedVenv, until, writeScript, type MountedVenv } from '../helpers/mounted-venv.js';
import { buildSharedLibrary } from '../helpers/shared-library.js';

const TIMEOUT_MS = 5 * 60_000;
const SWAPS = 100;
const WRITE_EVERY = 5;
const FRESH_EVERY = 5;
/** 42 MB. */
const PAGES = 10_752;

/** Told by lines: which version to put there, and how. Opens a transaction for it, and commits, around each. */
const WRITER = `
import os, shutil, sys
site, *stock = sys.argv[1:]
for line in sys.stdin:
    how, version = line.split()
    if how == 'write':
        with open(f'{site}/lib/new.so', 'wb') as out, open(stock[int(version) - 1], 'rb') as source:
            while part := source.read(1 << 20): out.write(part)
        os.replace(f'{site}/lib/new.so', f'{site}/lib/library.so')
    else:
        os.rename(f'{site}/lib', f'{site}/aside')
        os.rename(f'{site}/other', f'{site}/lib')
        os.rename(f'{site}/aside', f'{site}/other')
    print('done', flush=True)
`;

/** Hashes whole files by read and by mapping, some of them held over many swaps. One line for each hash. */
const HASHER = `
import hashlib, mmap, os, random, select, sys
path, kind = sys.argv[1:]
held = []
def digest(data): return hashlib.sha256(data).hexdigest()
while not select.select([0], [], [], 0)[0]:
    if len(held) < 4:
        fd = os.open(path, os.O_RDONLY)
        held.append((fd, mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ) if kind == 'mmap' else None, set()))
    fd, mapped, seen = random.choice(held)
    if random.random() < 0.3:
        if mapped: mapped.madvise(mmap.MADV_DONTNEED)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    if mapped: found = digest(mapped)
    else:
        state, at = hashlib.sha256(), 0
        while part := os.pread(fd, 1 << 20, at):
            state.update(part); at += len(part)
        assert at == os.fstat(fd).st_size, (at, os.fstat(fd).st_size)
        found = state.hexdigest()
    seen.add(found)
    assert len(seen) == 1, f'{kind}: one descriptor had {seen}'
    print(found, flush=True)
    if random.random() < 0.3:
        fd, mapped, _ = held.pop(random.randrange(len(held)))
        if mapped: mapped.close()
        os.close(fd)
`;

/** A new process: loads the library, and calls it again when the world has moved on. Prints its version. */
const LOADER = `
import ctypes, sys, time
library = ctypes.CDLL(sys.argv[1])
library.wrong_pages.restype = ctypes.c_long
version = library.version()
for _ in range(int(sys.argv[2])):
    assert (library.version(), library.wrong_pages()) == (version, 0), (version, library.version(), library.wrong_pages())
    time.sleep(0.15)
print(version)
`;

class Hasher {
  readonly #child: ChildProcess;
  readonly seen = new Map<string, number>();
  readonly #ended: Promise<string | number | null>;

  /** Without `site` nothing lists the root: it is pinned nowhere, and opens what is newest. */
  constructor(mounted: MountedVenv, script: string, path: string, kind: 'read' | 'mmap', isPinned: boolean) {
    this.#child = mounted.start(mounted.python, [...(isPinned ? [] : ['-S']), script, path, kind]);
    createInterface({ input: this.#child.stdout! }).on('line', (hash) =>
      this.seen.set(hash, (this.seen.get(hash) ?? 0) + 1),
    );
    this.#ended = new Promise((resolve) => this.#child.once('close', (code, signal) => resolve(signal ?? code)));
  }

  /** How it ended. */
  async stop(): Promise<string | number | null> {
    this.#child.stdin!.end();
    return this.#ended;
  }
}

test(`a large shared library over ${SWAPS} swaps`, { timeout: TIMEOUT_MS }, async (t) => {
  const libraries: ReturnType<typeof buildSharedLibrary>[] = [];
  const mounted = await mountedVenv(t, {
    pip: false,
    prepare: async ({ sitePackages }, work) => {
      for (const [folder, version] of [
        ['lib', 1],
        ['other', 2],
      ] as const) {
        const built = buildSharedLibrary(work, version, PAGES);
        libraries.push(built);
        mkdirSync(join(sitePackages, folder));
        writeFileSync(join(sitePackages, folder, '__init__.py'), '');
        copyFileSync(built.path, join(sitePackages, folder, 'library.so'));
      }
    },
  });
  const path = join(mounted.site, 'lib', 'library.so');
  const daemon = await ControlClient.connect(defaultStorePath(mounted.site));
  t.after(() => daemon.close());
  const script = writeScript(mounted, 'writer.py', WRITER);
  const writer = mounted.start(mounted.python, [script, mounted.site, ...libraries.map((built) => built.path)]);
  const written = createInterface({ input: writer.stdout! })[Symbol.asyncIterator]();
  const swap = async (how: 'write' | 'rename', version: number): Promise<void> => {
    const { transaction } = await daemon.request('begin', { pid: writer.pid!, explicit: true });
    writer.stdin!.write(`${how} ${version}\n`);
    assert.equal((await written.next()).value, 'done', mounted.serverLog());
    const { changed } = await daemon.request('commit', { transaction });
    assert.ok(changed);
  };
  const loader = writeScript(mounted, 'loader.py', LOADER);
  const load = async (times: number): Promise<number> =>
    Number(await mounted.must(mounted.python, loader, path, String(times)));

  const hashing = writeScript(mounted, 'hasher.py', HASHER);
  const pinned = new Hasher(mounted, hashing, path, 'mmap', true);
  await until('it is pinned', () => pinned.seen.size > 0);
  const free = (['read', 'mmap'] as const).map((kind) => new Hasher(mounted, hashing, path, kind, false));
  const over = new AbortController();
  const loaded = new Map<number, number>();
  const loads = (async () => {
    while (!over.signal.aborted) {
      const version = await load(6);
      loaded.set(version, (loaded.get(version) ?? 0) + 1);
    }
  })();
  // What lib and other have now.
  let versions: [number, number] = [1, 2];
  const begun = Date.now();
  try {
    for (let i = 1; i <= SWAPS; i++) {
      if (i % WRITE_EVERY === 0) {
        versions = [3 - versions[0], versions[1]];
        await swap('write', versions[0]);
      } else {
        versions = [versions[1], versions[0]];
        await swap('rename', 0);
      }
      if (i % FRESH_EVERY === 0) assert.equal(await load(1), versions[0], 'a new process has the newest');
    }
  } finally {
    over.abort();
    await loads;
  }
  for (const hasher of [pinned, ...free]) assert.equal(await hasher.stop(), 0, 'a hashing process failed');
  const legal = libraries.map(({ sha256 }) => sha256).sort();
  const count = ({ seen }: Hasher): number => [...seen.values()].reduce((sum, times) => sum + times, 0);
  t.diagnostic(
    `${SWAPS} swaps in ${((Date.now() - begun) / 1000).toFixed(1)} s; hashes: ${free.map(count).join(' by read, ')} by ` +
      `mapping, ${count(pinned)} by a pinned process; loaded by ` +
      [...loaded].map(([version, times]) => `${times} × v${version}`).join(', '),
  );
  for (const { seen } of free) assert.deepEqual([...seen.keys()].sort(), legal);
  assert.deepEqual([...pinned.seen.keys()], [libraries[0]!.sha256]);
  assert.deepEqual(
    [...loaded.keys()].filter((version) => version !== 1 && version !== 2),
    [],
  );
  writer.stdin!.end();
  assert.equal((await daemon.request('status', {})).generation, SWAPS);
  await mounted.unmount();
});
