/** Why a transaction was not committed, in words for its installer's terminal, `status` and the log. Pure. */
import type { Finding } from '../python/verify.js';
import type { Conflict } from './rebase.js';

const SHOWN = 3;

/** For its installer's terminal: a transaction was refused, why, and what can be done about it. */
export function refusalLines(who: string, reason: string, id: number, directory: string): string[] {
  const command = (words: string): string => `siteswap ${words} ${shellWord(directory)} ${id}`;
  return [
    `${who} is not committed, nothing was changed:`,
    `  ${reason}`,
    `look at it:            ${command('shell')}`,
    `check it again:        ${command('verify')}`,
    `take it all the same:  ${command('commit --force')}`,
    `drop it:               ${command('abort')}`,
  ];
}

/** For whoever asked for the commit and waits: the same in one line. */
export function refusalHint(id: number, directory: string): string {
  const words = `${shellWord(directory)} ${id}`;
  return `\`siteswap shell ${words}\` shows it; instead of \`shell\`, \`verify\` checks it again, \`commit --force\` takes it all the same, \`abort\` drops it.`;
}

export function conflictHint(id: number, directory: string): string {
  const words = `${shellWord(directory)} ${id}`;
  return `Run its command again on what is there now and drop this one with \`siteswap abort ${words}\`, or let it win with \`siteswap commit --force ${words}\`.`;
}

function shellWord(word: string): string {
  return /^[\w@%+=:,./~-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
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
