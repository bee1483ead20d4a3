/** `siteswap log`: the generations, newest first, with what each changed. */
import type { Command } from 'commander';
import type { GenerationSummary } from '../../daemon/control-protocol.js';
import { parseNatural } from '../arguments.js';
import { formatCommand, formatTime, print, printJson, table } from '../output.js';
import { ask, mounted } from '../target.js';

interface Options {
  limit?: number;
  json?: true;
}

export function addLog(program: Command): void {
  program
    .command('log')
    .description('show the history: generations, newest first')
    .argument('[DIR]', 'the mount; default: the active environment')
    .option('-n, --limit <N>', 'at most so many', parseNatural)
    .option('--json', 'print JSON')
    .action(async (dir: string | undefined, options: Options) => {
      const { store } = await mounted(dir);
      const result = await ask(store, 'log', options.limit === undefined ? {} : { limit: options.limit });
      if (options.json) printJson(result);
      else print(logTable(result.generations));
    });
}

export function logTable(generations: readonly GenerationSummary[]): string {
  const rows = generations.map((generation) => [
    String(generation.generation),
    formatTime(generation.createdMs),
    generation.reason,
    generation.packages.map(packageChange).join(', ') || '-',
    generation.command.length > 0 ? formatCommand(generation.command) : '-',
  ]);
  return table([['GENERATION', 'TIME', 'REASON', 'PACKAGES', 'COMMAND'], ...rows]);
}

function packageChange({ name, from, to }: GenerationSummary['packages'][number]): string {
  if (from === null) return `${name} ${to} (new)`;
  return to === null ? `${name} ${from} (removed)` : `${name} ${from} → ${to}`;
}
