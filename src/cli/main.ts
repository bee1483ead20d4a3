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
import { addStatus } from './commands/status.js';
import { addUnmount } from './commands/unmount.js';
import { addWait } from './commands/wait.js';
import { hint, reportError } from './output.js';

function buildProgram(commandToRun: readonly string[]): Command {
  const program = new Command('siteswap')
    .description('Installs into site-packages become atomic, and can be taken back.')
    .version(packageVersion(), '-V, --version')
    .helpCommand(false)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text) });
  addMount(program);
  addUnmount(program);
  addRun(program, commandToRun);
  addBegin(program);
  addCommit(program);
  addAbort(program);
  addWait(program);
  addStatus(program);
  addLog(program);
  addDoctor(program);
  return program;
}

/** The words after `--` belong to the command that `run` runs: commander could not tell them from DIR. */
function splitRun(words: readonly string[]): { own: readonly string[]; commandToRun: readonly string[] } {
  const dashes = words.indexOf('--');
  if (words[0] !== 'run' || dashes < 0) return { own: words, commandToRun: [] };
  return { own: words.slice(0, dashes), commandToRun: words.slice(dashes + 1) };
}

async function main(words: readonly string[]): Promise<void> {
  const { own, commandToRun } = splitRun(words);
  try {
    await buildProgram(commandToRun).parseAsync([...own], { from: 'user' });
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
