/**
 * `siteswap run [DIR] -- CMD…`: CMD in a transaction of its own.
 *
 * The transaction's root is this process, so it ends as an abort whenever this process dies before it has asked for the
 * commit. Signals that are meant to end CMD are passed on, and CMD's end decides; a commit that was asked for is waited
 * for, since the server carries it out in any case.
 */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import type { Command } from 'commander';
import type { Result } from '../../daemon/control-protocol.js';
import { describe, SiteswapError, systemCode } from '../../util/errors.js';
import { exitCode } from '../../util/exit-codes.js';
import { collect } from '../arguments.js';
import { reportError, tell, tellWarnings } from '../output.js';
import { withCommitSteps } from '../progress.js';
import { ask, mounted } from '../target.js';

const NOT_FOUND = 127;
const NOT_EXECUTABLE = 126;

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

async function run(dir: string | undefined, command: readonly string[], commands: string[]): Promise<number> {
  const { store } = await mounted(dir);
  const begun = await ask(store, 'begin', { pid: process.pid, explicit: true, command: [...command] });
  const { transaction } = begun;
  const ended = await runCommand(command, begun);
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

/** Resolves with CMD's exit code, as a shell would give it. */
function runCommand([file, ...args]: readonly string[], { token }: Result<'begin'>): Promise<number> {
  const child = spawn(file!, args, { stdio: 'inherit', env: { ...process.env, SITESWAP_TRANSACTION: token } });
  // A terminal sends its signals to CMD too: there it is enough that they don't end this process.
  const fromTerminal = process.stdin.isTTY ? ['SIGINT', 'SIGQUIT'] : [];
  const pass = (signal: NodeJS.Signals): void => {
    if (!fromTerminal.includes(signal)) child.kill(signal);
  };
  for (const signal of ['SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, pass);
  return new Promise((resolve) => {
    child.once('error', (error) => {
      tell(`siteswap: ${file}: ${systemCode(error) === 'ENOENT' ? 'command not found' : describe(error)}`);
      resolve(systemCode(error) === 'ENOENT' ? NOT_FOUND : NOT_EXECUTABLE);
    });
    child.once('exit', (code, signal) => resolve(signal === null ? code! : 128 + constants.signals[signal]));
  });
}
