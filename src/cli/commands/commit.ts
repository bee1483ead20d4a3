/** `siteswap commit`: ends a transaction by making its result visible. Prints the new generation's number. */
import type { Command } from 'commander';
import { dirAndTransaction } from '../arguments.js';
import { print, printJson, tell, tellWarnings } from '../output.js';
import { withCommitSteps } from '../progress.js';
import { ask, mounted } from '../target.js';

interface Options {
  force?: true;
  json?: true;
}

export function addCommit(program: Command): void {
  program
    .command('commit')
    .description('verify an open transaction and make its result visible')
    .argument('[DIR]', 'the mount; default: the active environment')
    .argument('[ID]', 'the transaction; may be left out when only one is open')
    .option('--force', 'commit although verification refused it')
    .option('--json', 'print JSON')
    .action(async (first: string | undefined, second: string | undefined, options: Options) => {
      const { dir, transaction } = dirAndTransaction(first, second);
      const { store } = await mounted(dir);
      const params = { ...(transaction !== undefined && { transaction }), ...(options.force && { force: true }) };
      const result = await withCommitSteps((onEvent) => ask(store, 'commit', params, onEvent));
      if (options.json) printJson(result);
      else print(String(result.generation));
      tellWarnings(result.warnings);
      if (!result.changed) tell('Nothing was changed: no new generation.');
    });
}
