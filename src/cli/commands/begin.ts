/** `siteswap begin`: opens an explicit transaction. Its number is the only thing on stdout, for `id=$(siteswap begin)`. */
import type { Command } from 'commander';
import { parsePid } from '../arguments.js';
import { hint, print, printJson } from '../output.js';
import { ask, mounted } from '../target.js';

interface Options {
  pid: number;
  json?: true;
}

export function addBegin(program: Command): void {
  program
    .command('begin')
    .description('open a transaction, to be ended by `commit` or `abort`')
    .argument('[DIR]', 'the mount; default: the active environment')
    .option('--pid <PID>', 'whose writes and whose descendants’ writes belong to it', parsePid, process.ppid)
    .option('--json', 'print JSON')
    .addHelpText('after', '\nWithout --pid it is the process that called siteswap, such as your shell.')
    .action(async (dir: string | undefined, options: Options) => {
      const { store } = await mounted(dir);
      const begun = await ask(store, 'begin', { pid: options.pid, explicit: true });
      if (options.json) {
        printJson(begun);
        return;
      }
      print(String(begun.transaction));
      hint(`Other processes join it with SITESWAP_TRANSACTION=${begun.token} in their environment.`);
    });
}
