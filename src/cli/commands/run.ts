/**
 * `siteswap run [DIR] -- CMD…`: CMD in a transaction of its own.
 *
 * The transaction's root is this process, so it ends as an abort whenever this process dies before it has asked for the
 * commit. Signals that are meant to end CMD are passed on, and CMD's end decides; a commit that was asked for is waited
 * for, since the server carries it out in any case.
 */
import type { Command } from 'commander';
import { SiteswapError } from '../../util/errors.js';
import { exitCode } from '../../util/exit-codes.js';
import { sandboxProgram } from '../../verifier/sandbox.js';
import { collect } from '../arguments.js';
import { runChild } from '../child.js';
import { reportError, tell, tellWarnings } from '../output.js';
import { withCommitSteps } from '../progress.js';
import { ask, mounted } from '../target.js';

/** `command`: the words after `--`, which commander never sees. */
export function addRun(program: Command, command: readonly string[]): void {
  program
    .command('run')
    .description('run CMD in a transaction: committed when CMD succeeds, dropped when it fails')
    .argument('[DIR]', 'the mount; default: the active environment')
    .option(
      '--check <CMD>',
      'a test of your own, run in the staged tree before the commit; again for more',
      collect,
      [],
    )
    .usage('[DIR] -- CMD…')
    .action(async (dir: string | undefined, { check }: { check: string[] }) => {
      if (command.length === 0) {
        throw new SiteswapError('USAGE', 'no command to run', 'siteswap run [DIR] -- CMD…');
      }
      process.exitCode = await run(dir, command, check);
    });
}

/**
 * What to start CMD by: it sees the transaction's own root over the mount, in a mount namespace of its own, whose names the
 * kernel keeps. Without the right to mount, CMD sees the same by way of the mount that everybody uses, and asks more.
 */
function fromOwnRoot(mountpoint: string): string[] {
  return process.geteuid?.() === 0 ? [sandboxProgram(), '--own-root', mountpoint, '--'] : [];
}

async function run(dir: string | undefined, command: readonly string[], commands: string[]): Promise<number> {
  const { store, mountpoint } = await mounted(dir);
  const begun = await ask(store, 'begin', { pid: process.pid, explicit: true, command: [...command] });
  const { transaction } = begun;
  const ended = await runChild([...fromOwnRoot(mountpoint), ...command], {
    env: { SITESWAP_TRANSACTION: begun.token },
  });
  if (ended !== 0) {
    await ask(store, 'abort', { transaction });
    tell(`siteswap: the command failed (${ended}): nothing was changed`);
    return ended;
  }
  try {
    const { warnings } = await withCommitSteps((onEvent) => ask(store, 'commit', { transaction, commands }, onEvent));
    tellWarnings(warnings);
    return 0;
  } catch (error) {
    const code = reportError(error);
    if (code === exitCode('commitRefused')) return exitCode('runRefused');
    return code === exitCode('commitConflict') ? exitCode('runConflict') : code;
  }
}
