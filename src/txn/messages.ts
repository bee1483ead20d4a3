/** Why a transaction was not committed, in words for its installer's terminal, `status` and the log. Pure. */
import type { Generation } from '../store/generation.js';
import type { Finding } from './commit.js';

const SHOWN = 3;

export function refusedReason(findings: readonly Finding[]): string {
  const errors = findings.filter((finding) => finding.severity === 'error').map((finding) => finding.message);
  return listed(errors, '; ');
}

/** `winners`: the generations that came after the transaction's base, newest first. */
export function conflictReason(command: readonly string[], paths: readonly string[], winners: Generation[]): string {
  const others = winners.map((winner) => `'${winner.command.join(' ')}' (generation ${winner.generation})`);
  return `'${command.join(' ')}' and ${listed(others, ', ')} changed the same files: ${listed(paths, ', ')}`;
}

function listed(items: readonly string[], separator: string): string {
  const more = items.length - SHOWN;
  return items.slice(0, SHOWN).join(separator) + (more > 0 ? `${separator}and ${more} more` : '');
}
