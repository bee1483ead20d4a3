#!/usr/bin/env node
/**
 * The `siteswap` command. Reads the command line, runs one command of `commands/`, and turns whatever it throws into a
 * message and an exit code (util/exit-codes). Exit codes, option names and JSON are what scripts rely on.
 */
import { Command, CommanderError } from 'commander';
import { exitCode } from '../util/exit-codes.js';
import { packageVersion } from '../util/package-root.js';
import { addAbort } from './commands/abort.js';
import { addBegin } from './commands/begin.js';
import { addCommit } from './commands/commit.js';
import { addDoctor } from './commands/doctor.js';
import { addLog } from './commands/log.js';
import { addMount } from './commands/mount.js';
import { addRun } from './commands/run.js';
import { addShell } from './commands/shell.js';
import { addStatus } from './commands/status.js';
import { addUnmount } from './commands/unmount.js';
import { addVerify } from './commands/verify.js';
import { addWait } from './commands/wait.js';
import { splitAtDashes } from './arguments.js';
import { hint, reportError } from './output.js';

function buildProgram(command: readonly string[]): Command {
  const program = new Command('siteswap')
    .description('Installs into site-packages become atomic, and can be taken back.')
    .version(packageVersion(), '-V, --version')
    .helpCommand(false)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text) });
  addMount(program);
  addUnmount(program);
  addRun(program, command);
  addBegin(program);
  addCommit(program);
  addAbort(program);
  addVerify(program);
  addShell(program, command);
  addWait(program);
  addStatus(program);
  addLog(program);
  addDoctor(program);
  return program;
}

/** Commands with a command of the user's behind `--`: commander could not tell its words from DIR. */
const WITH_COMMAND = new Set(['run', 'shell']);

async function main(words: readonly string[]): Promise<void> {
  const { own, command } = WITH_COMMAND.has(words[0] ?? '') ? splitAtDashes(words) : { own: words, command: [] };
  try {
    await buildProgram(command).parseAsync([...own], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) {
      process.exitCode = reportError(error);
    } else if (error.exitCode !== 0) {
      // Commander has printed its message; without a command it has printed the help instead.
      if (error.code !== 'commander.help') hint('`siteswap --help` and `siteswap COMMAND --help` tell what there is.');
      process.exitCode = exitCode('usage');
    }
  }
}

// `siteswap log | head`: nobody reads the rest.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
// Should nothing be left to wait for before a command has ended, Node would exit with 13, which means something here.
let ended = false;
process.once('exit', () => {
  if (!ended) process.exitCode = reportError(new Error('the command lost what it was waiting for'));
});
await main(process.argv.slice(2));
ended = true;
