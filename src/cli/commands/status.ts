/** `siteswap status`: what is visible, who is writing, who reads what, and whether all is well. */
import type { Command } from 'commander';
import type { Status, TransactionStatus } from '../../daemon/control-protocol.js';
import { formatCommand } from '../../util/format-command.js';
import { fields, formatTime, print, printJson, table } from '../output.js';
import { ask, mounted } from '../target.js';

export function addStatus(program: Command): void {
  program
    .command('status')
    .description('show the visible generation, transactions, readers and health')
    .argument('[DIR]', 'the mount; default: the active environment')
    .option('--json', 'print JSON')
    .action(async (dir: string | undefined, options: { json?: true }) => {
      const { store } = await mounted(dir);
      const status = await ask(store, 'status', {});
      if (options.json) printJson(status);
      else print(statusText(status));
    });
}

export function statusText(status: Status): string {
  const requests = Object.values(status.counters.requests).reduce((sum, count) => sum + count, 0);
  const head = fields([
    ['mounted over', status.mountpoint],
    ['store', status.store],
    ['generation', String(status.generation)],
    ['health', status.health.length === 0 ? 'good' : status.health.join('; ')],
    ['backend', `${status.backend}, FUSE 7.${status.kernel.minor}, features: ${status.features.join(' ') || 'none'}`],
    ['commit', status.commit],
    ['server', `pid ${status.serverPid}, version ${status.version}, ${requests} requests served`],
  ]);
  return [head, transactionsText(status.transactions), readersText(status)].join('\n\n');
}

function transactionsText(transactions: readonly TransactionStatus[]): string {
  if (transactions.length === 0) return 'No transaction.';
  const rows = transactions.map((transaction) => [
    String(transaction.id),
    transaction.step === null ? transaction.state : `${transaction.state}: ${transaction.step}`,
    String(transaction.base),
    String(transaction.mutations),
    String(transaction.rootPid),
    formatCommand(transaction.command),
  ]);
  const refusals = transactions.flatMap(({ id, reason }) => (reason === null ? [] : [`${id} was refused: ${reason}`]));
  return [table([['TRANSACTION', 'STATE', 'BASE', 'CHANGES', 'PID', 'COMMAND'], ...rows]), ...refusals].join('\n');
}

const PIN_REASONS: Record<Status['pins'][number]['reason'], string> = {
  listed: 'listed it',
  inherited: 'forked',
  moved: 'installed it',
};

function readersText({ pins }: Status): string {
  if (pins.length === 0) return 'No reader.';
  const rows = pins.map((pin) => [
    String(pin.pid),
    String(pin.generation),
    formatTime(pin.sinceMs),
    PIN_REASONS[pin.reason],
    pin.command,
  ]);
  return table([['READER', 'GENERATION', 'SINCE', 'WHY', 'COMMAND'], ...rows]);
}
