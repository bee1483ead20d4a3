/** `siteswap verify`: checks a transaction that was refused or staged once more. Exits with 14 when it would be refused. */
import type { Command } from 'commander';
import type { Result } from '../../daemon/control-protocol.js';
import { count } from '../../python/checks/words.js';
import { isRefused } from '../../txn/commit.js';
import { exitCode } from '../../util/exit-codes.js';
import { collect, dirAndTransaction } from '../arguments.js';
import { print, printJson, table } from '../output.js';
import { withProgress } from '../progress.js';
import { ask, mounted } from '../target.js';

interface Options {
  check: string[];
  json?: true;
}

export function addVerify(program: Command): void {
  program
    .command('verify')
    .description('check a refused or staged transaction again')
    .argument('[DIR]', 'the mount; default: the active environment')
    .argument('[ID]', 'the transaction; may be left out when only one is kept')
    .option('--check <CMD>', 'a test of your own, run in the staged tree; again for more', collect, [])
    .option('--json', 'print JSON')
    .action(async (first: string | undefined, second: string | undefined, options: Options) => {
      const { dir, transaction } = dirAndTransaction(first, second);
      const { store } = await mounted(dir);
      const params = { ...(transaction !== undefined && { transaction }), commands: options.check };
      const result = await withProgress('verify', (report) =>
        ask(store, 'verify', params, ({ detail }) => report(detail ?? '')),
      );
      if (options.json) printJson(result);
      else print(verifyText(result));
      if (isRefused(result.findings)) process.exitCode = exitCode('commitRefused');
    });
}

export function verifyText({ transaction, findings, checks }: Result<'verify'>): string {
  const rows = checks.map(({ name, durationMs }) => {
    const found = findings.filter(({ check }) => check === name);
    const errors = found.filter(({ severity }) => severity === 'error').length;
    const warnings = found.length - errors;
    const said = [errors > 0 && count(errors, 'error'), warnings > 0 && count(warnings, 'warning')];
    return [name, `${durationMs.toFixed(0)} ms`, said.filter(Boolean).join(', ') || 'ok'];
  });
  const lines = findings.map(({ severity, check, message }) => `${severity}: ${check}: ${message}`);
  return [`transaction ${transaction}`, table([['CHECK', 'TIME', 'RESULT'], ...rows]), ...lines].join('\n');
}
