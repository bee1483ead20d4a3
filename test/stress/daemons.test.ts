/**
 * Programs that become daemons while commits come: each lists the directory and reads from it, forks twice, its parents
 * end at once, and who goes on asks for nothing for a while. It must find what its ancestor saw. (What makes it hard: when
 * the server looks for such forks, one of them may end, and another may be made, between two lines of its list.)
 */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ControlClient } from '../../src/daemon/control-client.js';
import { defaultStorePath } from '../../src/store/layout.js';
import { compile } from '../helpers/compile.js';
import { mountedVenv, until } from '../helpers/mounted-venv.js';
import { Swaps } from '../helpers/swaps.js';

const TIMEOUT_MS = 3 * 60_000;
const RUN_MS = 10_000;

/**
 * `daemons SITE LOG SECONDS` starts itself again and again as `daemons SITE LOG`, a few at once. Each of these writes a
 * line: the version that it read first, and the one that its grandchild read.
 */
const SOURCE = String.raw`
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static void version(const char* site, char* into, size_t room) {
  char path[4096];
  snprintf(path, sizeof path, "%s/pkg/version", site);
  int fd = open(path, O_RDONLY);
  ssize_t got = fd < 0 ? -1 : read(fd, into, room - 1);
  if (got < 0) got = snprintf(into, room, "error");
  into[got] = 0;
  if (fd >= 0) close(fd);
}
static int look(const char* site, const char* log) {
  char first[64], later[64], line[160];
  DIR* directory = opendir(site);
  while (directory != NULL && readdir(directory) != NULL) continue;
  version(site, first, sizeof first);
  for (int depth = 0; depth < 2; depth++) {
    pid_t child = fork();
    if (child < 0) return 1;
    if (child > 0) _exit(0);
    setsid();
  }
  srand((unsigned)getpid());
  usleep(20000 + rand() % 300000);
  version(site, later, sizeof later);
  int length = snprintf(line, sizeof line, "%s %s\n", first, later);
  int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
  return write(fd, line, length) == length ? 0 : 1;
}
int main(int argc, char** argv) {
  if (argc == 3) return look(argv[1], argv[2]);
  for (time_t end = time(NULL) + atoi(argv[3]); time(NULL) < end;) {
    for (int i = 0; i < 4; i++) {
      if (fork() == 0) execl("/proc/self/exe", "daemon", argv[1], argv[2], (char*)NULL);
    }
    while (wait(NULL) > 0) continue;
    usleep(5000);
  }
  return 0;
}
`;

for (const disable of ['', 'epoch']) {
  const name = `daemons that are forked while commits come${disable === '' ? '' : `, without ${disable}`}`;
  test(name, { timeout: TIMEOUT_MS }, async (t) => {
    const mounted = await mountedVenv(t, {
      pip: false,
      disable,
      prepare: ({ sitePackages }) => {
        mkdirSync(join(sitePackages, 'pkg'));
        writeFileSync(join(sitePackages, 'pkg', 'version'), '0');
        return Promise.resolve();
      },
    });
    const program = compile(mounted.work, 'daemons', SOURCE);
    const log = join(mounted.work, 'daemons.log');
    writeFileSync(log, '');
    const daemon = await ControlClient.connect(defaultStorePath(mounted.site));
    t.after(() => daemon.close());
    const swaps = new Swaps(mounted, daemon);
    const spawner = mounted.start(program, [mounted.site, log, String(RUN_MS / 1000)]);
    while (spawner.exitCode === null && spawner.signalCode === null) {
      const { generation } = await daemon.request('status', {});
      await swaps.commit(`write('pkg/version', '${generation + 1}')`);
    }
    assert.equal(spawner.exitCode, 0);
    const isOver = async (): Promise<boolean> => {
      const { pins, generation } = await daemon.request('status', {});
      return pins.every((pin) => pin.generation === generation);
    };
    await until('all daemons have ended', isOver);
    const { generation } = await daemon.request('status', {});
    const lines = readFileSync(log, 'utf8').trim().split('\n');
    const lost = lines.filter((line) => {
      const [first, later] = line.split(' ');
      return first !== later || first === 'error';
    });
    const versions = new Set(lines.map((line) => line.split(' ')[0]));
    t.diagnostic(`${lines.length} daemons of ${versions.size} versions, ${generation} commits`);
    assert.deepEqual(lost, []);
    assert.ok(lines.length > 200, `only ${lines.length} daemons`);
    swaps.end();
    await mounted.unmount();
  });
}
