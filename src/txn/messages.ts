/** Why a transaction was not committed, in words for its installer's terminal, `status` and the log. Pure. */
import type { Finding } from '../python/verify.js';
import type { Conflict } from './rebase.js';

const SHOWN = 3;

/** For its installer's terminal: what can be done about a transaction that was refused and kept. */
export function whatNow(id: number): string[] {
  return [
    `Nothing was changed. To look at it: siteswap shell ${id}; to check it again: siteswap verify ${id};`,
    `to take it all the same: siteswap commit --force ${id}; to drop it: siteswap abort ${id}`,
  ];
}

export function refusedReason(findings: readonly Finding[]): string {
  const errors = findings.filter((finding) => finding.severity === 'error').map((finding) => finding.message);
  return listed(errors, '; ');
}

/** Both commands by name: who is too late, and who came first. */
export function conflictReason(command: readonly string[], { paths, names, winners }: Conflict): string {
  const first = winners.map((winner) => `'${winner.command.join(' ')}' (generation ${winner.generation})`);
  const both = `'${command.join(' ')}' and, before it, ${listed(first, ', ')} changed the same`;
  if (names.length === 0) return `${both} files: ${listed(paths, ', ')}`;
  return `${both} ${names.length === 1 ? 'distribution' : 'distributions'}: ${listed(names, ', ')}`;
}

function listed(items: readonly string[], separator: string): string {
  const more = items.length - SHOWN;
  return items.slice(0, SHOWN).join(separator) + (more > 0 ? `${separator}and ${more} more` : '');
}
