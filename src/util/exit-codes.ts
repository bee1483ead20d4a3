/**
 * Exit codes of every `siteswap` command: one sentence each, never reused. The README's table is made from this one.
 */
export const EXIT_CODES = {
  ok: { code: 0, meaning: 'The command did what it was asked to do.' },
  internal: { code: 1, meaning: 'A bug in siteswap: please report it with the output of DEBUG=siteswap:*.' },
  usage: { code: 2, meaning: 'The command line was not understood.' },
  noDirectory: { code: 3, meaning: 'DIR does not exist or is not a directory.' },
  alreadyMounted: { code: 4, meaning: 'Something is already mounted over DIR by siteswap.' },
  noRights: { code: 5, meaning: 'The user may not mount over DIR.' },
  hostRequirement: { code: 6, meaning: '/dev/fuse or another thing that the host must have is missing.' },
  notMounted: { code: 7, meaning: 'siteswap is not mounted over DIR.' },
  storeVersion: { code: 8, meaning: 'The store was written by a version of siteswap that this one does not know.' },
  storeDamaged: { code: 9, meaning: 'A file of the store is damaged or missing.' },
  storeInUse: { code: 10, meaning: 'Another siteswap daemon is using the store.' },
  lowerChanged: { code: 11, meaning: 'The original directory was changed behind the mount.' },
  busy: { code: 12, meaning: 'The mount is in use, or a transaction is open.' },
  noTransaction: { code: 13, meaning: 'There is no such transaction, or more than one could be meant.' },
  commitRefused: { code: 14, meaning: 'The commit was refused by verification; the transaction is kept.' },
  commitConflict: { code: 15, meaning: 'The commit was refused because another one changed the same things first.' },
  serverSilent: { code: 16, meaning: 'The server does not answer.' },
  timedOut: { code: 17, meaning: 'The time to wait was over before the thing waited for happened.' },
  accessDenied: { code: 18, meaning: 'Only root and the user who mounted may give this command.' },
  storeIo: { code: 19, meaning: 'The disk of the store is full or fails.' },
  runRefused: { code: 120, meaning: '`run`: CMD succeeded, but verification refused to commit its result.' },
  runConflict: { code: 121, meaning: '`run`: CMD succeeded, but another commit had changed the same things first.' },
} as const satisfies Record<string, { code: number; meaning: string }>;

export type ExitName = keyof typeof EXIT_CODES;

export function exitCode(name: ExitName): number {
  return EXIT_CODES[name].code;
}
