/**
 * Many processes that are pinned: each is a program of its own, lists the directory once, and stays. A small C program,
 * since a thousand Pythons would take the machine's memory.
 */
import { type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { compile } from './compile.js';
import type { MountedVenv } from './mounted-venv.js';

/** `holders DIR N` starts itself N times as `holders DIR`, says "ready" when all have listed DIR, and ends them at EOF. */
const SOURCE = String.raw`
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char** argv) {
  char byte = 0;
  if (argc == 2) {
    DIR* directory = opendir(argv[1]);
    if (directory == NULL) return 1;
    while (readdir(directory) != NULL) continue;
    closedir(directory);
    if (write(10, &byte, 1) != 1) return 1;
    for (;;) pause();
  }
  int count = atoi(argv[2]), ready[2];
  pid_t* children = calloc(count, sizeof *children);
  if (pipe(ready) != 0 || dup2(ready[1], 10) != 10) return 1;
  for (int i = 0; i < count; i++) {
    children[i] = fork();
    if (children[i] < 0) return 1;
    if (children[i] == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      execl("/proc/self/exe", "holder", argv[1], (char*)NULL);
      _exit(1);
    }
  }
  for (int i = 0; i < count; i++) if (read(ready[0], &byte, 1) != 1) return 1;
  puts("ready");
  fflush(stdout);
  while (read(0, &byte, 1) > 0) continue;
  for (int i = 0; i < count; i++) kill(children[i], SIGKILL);
  while (wait(NULL) > 0) continue;
  return 0;
}
`;

export class Holders {
  private constructor(private readonly child: ChildProcess) {}

  static async start(mounted: MountedVenv, count: number): Promise<Holders> {
    const program = compile(mounted.work, 'holders', SOURCE);
    const child = mounted.start(program, [mounted.site, String(count)]);
    const lines = createInterface({ input: child.stdout! });
    const [line] = (await Promise.race([once(lines, 'line'), once(child, 'exit')])) as [unknown];
    if (line !== 'ready') throw new Error(`the holders ended: ${String(line)}`);
    return new Holders(child);
  }

  /** All of them have ended. */
  async end(): Promise<void> {
    const ended = once(this.child, 'exit');
    this.child.stdin!.end();
    await ended;
  }
}
