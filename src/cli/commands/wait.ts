/** `siteswap wait`: returns when no installer is at work and no commit is pending; prints the generation then visible. */
import type { Command } from 'commander';
import { parseSeconds } from '../arguments.js';
import { print, printJson } from '../output.js';
import { ask, mounted } from '../target.js';

interface Options {
  timeout?: number;
  json?: true;
}

export function addWait(program: Command): void {
  program
    .command('wait')
    .description('return when no commit is pending')
    .argument('[DIR]', 'the mount; default: the active environment')
    .option('--timeout <SECONDS>', 'give up after so long (exit code 17)', parseSeconds)
    .option('--json', 'print JSON')
    .action(async (dir: string | undefined, options: Options) => {
      const { store } = await mounted(dir);
      const result = await ask(store, 'wait', options.timeout === undefined ? {} : { timeoutMs: options.timeout });
      if (options.json) printJson(result);
      else print(String(result.generation));
    });
}
