/**
 * A reader that is held up while it takes a listing of the root in (its buffer is a page that comes when we say so), from before
 * a swap until after it. What the kernel takes from such a listing must be nothing that others find: it would be the old
 * tree for them, for ever.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test, type TestContext } from 'node:test';
import { ControlClient } from '../../src/daemon/control-client.js';
import { defaultStorePath } from '../../src/store/layout.js';
import { compile } from '../helpers/compile.js';
import { mountedVenv, type MountedVenv } from '../helpers/mounted-venv.js';
import { Swaps } from '../helpers/swaps.js';

const TIMEOUT_MS = 2 * 60_000;

/** Says `held` when the kernel waits for the page into which it lists; goes on after a line; then says `done`. */
const SOURCE = String.raw`
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
static char* page;
static int directory;
static void* list(void* unused) {
  while (syscall(SYS_getdents64, directory, page, 4096) > 0) continue;
  return unused;
}
int main(int argc, char** argv) {
  struct uffdio_api api = {.api = UFFD_API};
  struct uffd_msg fault;
  char line[16];
  pthread_t thread;
  directory = open(argv[1], O_RDONLY | O_DIRECTORY);
  int faults = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
  if (argc != 2 || directory < 0 || faults < 0 || ioctl(faults, UFFDIO_API, &api) != 0) return perror("set-up"), 1;
  page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct uffdio_register ours = {{(unsigned long)page, 4096}, UFFDIO_REGISTER_MODE_MISSING, 0};
  if (ioctl(faults, UFFDIO_REGISTER, &ours) != 0) return perror("register"), 1;
  pthread_create(&thread, NULL, list, NULL);
  if (read(faults, &fault, sizeof fault) != sizeof fault) return perror("fault"), 1;
  puts("held");
  fflush(stdout);
  if (fgets(line, sizeof line, stdin) == NULL) return 1;
  struct uffdio_zeropage zero = {{(unsigned long)page, 4096}, 0, 0};
  if (ioctl(faults, UFFDIO_ZEROPAGE, &zero) != 0) return perror("zero"), 1;
  pthread_join(thread, NULL);
  puts("done");
  fflush(stdout);
  return fgets(line, sizeof line, stdin) == NULL;
}
`;

async function start(
  t: TestContext,
): Promise<{ mounted: MountedVenv; swaps: Swaps; hold: () => Promise<() => Promise<void>> }> {
  const mounted = await mountedVenv(t, {
    pip: false,
    mount: ['--verify', 'none'],
    prepare: ({ sitePackages }) => {
      mkdirSync(join(sitePackages, 'pkg'));
      for (const name of ['top.py', 'pkg/part.py']) writeFileSync(join(sitePackages, name), 'old');
      return Promise.resolve();
    },
  });
  const program = compile(mounted.work, 'hold', SOURCE);
  const daemon = await ControlClient.connect(defaultStorePath(mounted.site));
  t.after(() => daemon.close());
  const hold = async (): Promise<() => Promise<void>> => {
    const child = mounted.start(program, [mounted.site]);
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    assert.equal((await lines.next()).value, 'held');
    return async () => {
      child.stdin!.write('go\n');
      assert.equal((await lines.next()).value, 'done');
      child.stdin!.end('end\n');
      await once(child, 'exit');
    };
  };
  return { mounted, swaps: new Swaps(mounted, daemon), hold };
}

/** By a process that does not list: a listing of its own could put right what another one left. */
async function reads(mounted: MountedVenv, name: string): Promise<string> {
  return mounted.must('/bin/cat', join(mounted.site, name));
}

test('a listing from before a swap, taken in after it', { timeout: TIMEOUT_MS }, async (t) => {
  const { mounted, swaps, hold } = await start(t);
  const goOn = await hold();
  // No name of the root itself: the kernel lets nobody change those while somebody lists them.
  await swaps.commit(`write('pkg/part.py', 'new')`);
  assert.equal(await reads(mounted, 'pkg/part.py'), 'new');
  await goOn();
  for (let i = 0; i < 3; i++) assert.equal(await reads(mounted, 'pkg/part.py'), 'new');
  swaps.end();
  await mounted.unmount();
});

test('a listing from before a transaction, taken in while it is open', { timeout: TIMEOUT_MS }, async (t) => {
  const { mounted, swaps, hold } = await start(t);
  const goOn = await hold();
  const transaction = await swaps.begin();
  await goOn();
  await swaps.run(`open(f'{site}/top.py', 'a').write(' and more')`);
  assert.equal(await reads(mounted, 'top.py'), 'old', 'what a member writes is seen by others');
  await swaps.abort(transaction);
  assert.equal(await reads(mounted, 'top.py'), 'old', 'what a member wrote outlives its abort');
  swaps.end();
  await mounted.unmount();
});
