/** `siteswap log`: the generations, newest first, with what each changed; of a mount, or of the store one left. */
import type { Command } from 'commander';
import { parseResult, type GenerationSummary, type Result } from '../../daemon/control-protocol.js';
import { Store } from '../../store/store.js';
import { parseNatural } from '../arguments.js';
import { formatCommand } from '../../util/format-command.js';
import { formatTime, print, printJson, table } from '../output.js';
import { ask, mountOrStore } from '../target.js';

/** In a row of the table; --json has all. */
const PACKAGES_SHOWN = 4;

interface Options {
  limit?: number;
  store?: string;
  json?: true;
}

export function addLog(program: Command): void {
  program
    .command('log')
    .description('show the history: generations, newest first')
    .argument('[DIR]', 'the mount; default: the active environment')
    .option('-n, --limit <N>', 'at most so many', parseNatural)
    .option('--store <DIR>', 'whose history, when DIR is not mounted; default: .NAME.siteswap beside DIR')
    .option('--json', 'print JSON')
    .action(async (dir: string | undefined, options: Options) => {
      const result = await history(dir, options);
      if (options.json) printJson(result);
      else print(logText(result));
    });
}

async function history(dir: string | undefined, { limit, store }: Options): Promise<Result<'log'>> {
  const found = await mountOrStore(dir, store);
  if (found.mount) return ask(found.mount.store, 'log', limit === undefined ? {} : { limit });
  // Told as the server would tell it.
  return parseResult('log', { generations: await (await Store.attach(found.store)).history(limit), refused: [] });
}

export function logText({ generations, refused }: Result<'log'>): string {
  const refusals = refused.map(({ id, command, reason }) => `${id} was refused (${formatCommand(command)}): ${reason}`);
  const warnings = generations.flatMap(({ generation, warnings: found }) =>
    found.map((warning) => `${generation}: warning: ${warning}`),
  );
  return [logTable(generations), ...warnings, ...refusals].join('\n');
}

export function logTable(generations: readonly GenerationSummary[]): string {
  const rows = generations.map((generation) => [
    String(generation.generation),
    formatTime(generation.createdMs),
    generation.reason,
    packagesText(generation.packages) || '-',
    generation.command.length > 0 ? formatCommand(generation.command) : '-',
  ]);
  return table([['GENERATION', 'TIME', 'REASON', 'PACKAGES', 'COMMAND'], ...rows]);
}

function packagesText(packages: GenerationSummary['packages']): string {
  const more = packages.length - PACKAGES_SHOWN;
  const shown = packages.slice(0, PACKAGES_SHOWN).map(packageChange).join(', ');
  return more > 0 ? `${shown}, and ${more} more` : shown;
}

function packageChange({ name, from, to }: GenerationSummary['packages'][number]): string {
  if (from === null) return `${name} ${to} (new)`;
  return to === null ? `${name} ${from} (removed)` : `${name} ${from} → ${to}`;
}
