/**
 * The root's listing while commits come: programs open the root, wait a little, list it twice. Each must see one generation,
 * the same both times, and none that is older than when it began; and leave nothing in the kernel for those who come later.
 */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ControlClient } from '../../src/daemon/control-client.js';
import { defaultStorePath } from '../../src/store/layout.js';
import { compile } from '../helpers/compile.js';
import { mountedVenv } from '../helpers/mounted-venv.js';
import { countRequests } from '../helpers/request-counts.js';
import { Swaps } from '../helpers/swaps.js';

const TIMEOUT_MS = 3 * 60_000;
const RUN_MS = 15_000;
/** A listing of several pages. */
const OTHERS = 300;

/**
 * `list SITE COMMITTED LOG SECONDS` starts itself again and again as `list SITE COMMITTED LOG`, twelve at a time. Each of these
 * writes a line: what was committed when it began, and the `gen-N` and the number of names in either listing.
 */
const SOURCE = String.raw`
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static int list(DIR* directory, char* into, size_t room) {
  int names = 0, found = 0;
  rewinddir(directory);
  strcpy(into, "nothing");
  for (struct dirent* entry; (entry = readdir(directory)) != NULL; names++) {
    if (strncmp(entry->d_name, "gen-", 4) == 0 && ++found == 1) snprintf(into, room, "%s", entry->d_name + 4);
  }
  if (found > 1) strcpy(into, "several");
  return names;
}
static int look(const char* site, const char* committed, const char* log) {
  char known[64] = "", first[64], second[64], line[300];
  int fd = open(committed, O_RDONLY);
  if (fd < 0 || read(fd, known, sizeof known - 1) <= 0) return 1;
  close(fd);
  DIR* directory = opendir(site);
  if (directory == NULL) return 1;
  srand((unsigned)getpid());
  usleep(rand() % 250000);
  int names = list(directory, first, sizeof first);
  usleep(rand() % 30000);
  int again = list(directory, second, sizeof second);
  closedir(directory);
  int length = snprintf(line, sizeof line, "%s %s %d %s %d\n", known, first, names, second, again);
  fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
  return write(fd, line, length) == length ? 0 : 1;
}
int main(int argc, char** argv) {
  if (argc == 4) return look(argv[1], argv[2], argv[3]);
  time_t end = time(NULL) + atoi(argv[4]);
  for (int running = 0; running > 0 || time(NULL) < end;) {
    if (running < 12 && time(NULL) < end) {
      if (fork() == 0) execl("/proc/self/exe", "list", argv[1], argv[2], argv[3], (char*)NULL);
      running++;
      usleep(3000);
    } else if (wait(NULL) > 0) {
      running--;
    }
  }
  return 0;
}
`;

test('listings of the root while commits come', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t, {
    pip: false,
    mount: ['--verify', 'none'],
    prepare: ({ sitePackages }) => {
      mkdirSync(join(sitePackages, 'gen-0'));
      for (let i = 0; i < OTHERS; i++) writeFileSync(join(sitePackages, `other-${'x'.repeat(60)}-${i}`), '');
      return Promise.resolve();
    },
  });
  const program = compile(mounted.work, 'list', SOURCE);
  const log = join(mounted.work, 'list.log');
  const committed = join(mounted.work, 'committed');
  const commit = (generation: number): void => {
    writeFileSync(`${committed}.new`, `${generation}`);
    renameSync(`${committed}.new`, committed);
  };
  writeFileSync(log, '');
  commit(0);
  const daemon = await ControlClient.connect(defaultStorePath(mounted.site));
  t.after(() => daemon.close());

  // The kernel never has all of it: each listing asks.
  await mounted.must(program, mounted.site, committed, log);
  const requests = await countRequests(daemon, () => mounted.must(program, mounted.site, committed, log));
  const asked = (requests['READDIR'] ?? 0) + (requests['READDIRPLUS'] ?? 0);
  assert.ok(asked >= 2 * 2 && requests['OPENDIR'] === undefined, JSON.stringify(requests));

  const swaps = new Swaps(mounted, daemon);
  const lister = mounted.start(program, [mounted.site, committed, log, String(RUN_MS / 1000)]);
  let generation = 0;
  while (lister.exitCode === null && lister.signalCode === null) {
    const before = generation;
    generation = await swaps.commit(`os.rename(f'{site}/gen-${before}', f'{site}/gen-${before + 1}')`);
    commit(generation);
    await sleep((generation * 37) % 80);
  }
  assert.equal(lister.exitCode, 0);
  const lines = readFileSync(log, 'utf8').trim().split('\n');
  const wrong = lines.filter((line) => {
    const [known, first, names, second, again] = line.split(' ');
    return first !== second || !(Number(first) >= Number(known)) || names !== again;
  });
  const counts = new Set(lines.map((line) => line.split(' ')[2]));
  t.diagnostic(`${lines.length} programs, ${generation} commits; ${JSON.stringify(requests)} for one`);
  assert.deepEqual(wrong, []);
  assert.equal(counts.size, 1, [...counts].join(' '));
  assert.ok(lines.length > 200 && generation > 20, `only ${lines.length} programs, ${generation} commits`);
  swaps.end();
  await mounted.unmount();
});
