/** `siteswap doctor`: whether a mount can work on this host, and how well. Exit code 6 when it can't. */
import type { Command } from 'commander';
import { exitCode } from '../../util/exit-codes.js';
import { examineHost, type HostReport } from '../host.js';
import { print, printJson, table } from '../output.js';

export function addDoctor(program: Command): void {
  program
    .command('doctor')
    .description('check whether this host has what siteswap needs')
    .option('--json', 'print JSON')
    .action((options: { json?: true }) => {
      const report = examineHost();
      if (options.json) printJson(report);
      else print(doctorText(report));
      if (!report.usable) process.exitCode = exitCode('hostRequirement');
    });
}

export function doctorText({ usable, checks, features }: HostReport): string {
  const rows = checks.map(({ name, ok, required, detail }) => [ok ? 'ok' : required ? 'FAIL' : 'note', name, detail]);
  const hints = checks.flatMap(({ ok, name, hint }) => (ok || !hint ? [] : [`${name}: ${hint}`]));
  const kernel = features.map(({ name, available, gives, otherwise }) => [
    available ? 'yes' : 'no',
    name,
    available ? gives : otherwise,
  ]);
  return [
    table(rows),
    ...(hints.length > 0 ? [hints.join('\n')] : []),
    table([['HERE', 'FEATURE', 'WHAT IT GIVES, OR WHAT IS DONE WITHOUT IT'], ...kernel]),
    usable ? 'siteswap can be used on this host.' : 'siteswap can NOT be used on this host.',
  ].join('\n\n');
}
