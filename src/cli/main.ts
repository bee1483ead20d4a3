#!/usr/bin/env node
/**
 * The `siteswap` command. Reads the command line, runs one command of `commands/`, and turns whatever it throws into a
 * message and an exit code (util/exit-codes). Exit codes, option names and JSON are what scripts rely on.
 */
import { Command, CommanderError } from 'commander';
import { exitCode } from '../util/exit-codes.js';
import { packageVersion } from '../util/package-root.js';
import { splitAtDashes } from './arguments.js';
import { hint, reportError } from './output.js';

/** In the order of the help. Only the module of the command that is given is loaded: Node takes a millisecond for each file. */
const COMMANDS: Record<string, () => Promise<(program: Command, command: readonly string[]) => void>> = {
  mount: async () => (await import('./commands/mount.js')).addMount,
  unmount: async () => (await import('./commands/unmount.js')).addUnmount,
  run: async () => (await import('./commands/run.js')).addRun,
  begin: async () => (await import('./commands/begin.js')).addBegin,
  commit: async () => (await import('./commands/commit.js')).addCommit,
  abort: async () => (await import('./commands/abort.js')).addAbort,
  verify: async () => (await import('./commands/verify.js')).addVerify,
  shell: async () => (await import('./commands/shell.js')).addShell,
  wait: async () => (await import('./commands/wait.js')).addWait,
  status: async () => (await import('./commands/status.js')).addStatus,
  log: async () => (await import('./commands/log.js')).addLog,
  doctor: async () => (await import('./commands/doctor.js')).addDoctor,
};

async function buildProgram(name: string | undefined, command: readonly string[]): Promise<Command> {
  const program = new Command('siteswap')
    .description('Installs into site-packages become atomic, and can be taken back.')
    .version(packageVersion(), '-V, --version')
    .helpCommand(false)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text) });
  const given = name !== undefined && Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  // Anything else is told about all of them.
  const adders = await Promise.all((given ? [given] : Object.values(COMMANDS)).map((load) => load()));
  for (const add of adders) add(program, command);
  return program;
}

/** Commands with a command of the user's behind `--`: commander could not tell its words from DIR. */
const WITH_COMMAND = new Set(['run', 'shell']);

async function main(words: readonly string[]): Promise<void> {
  const { own, command } = WITH_COMMAND.has(words[0] ?? '') ? splitAtDashes(words) : { own: words, command: [] };
  try {
    const program = await buildProgram(words[0], command);
    await program.parseAsync([...own], { from: 'user' });
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
// Should nothing be left to wait for before a command has ended, Node would exit with 13, which means something here. (Not
// at `exit`: that is also the end of a command that ended the process by itself, with a code of its own.)
const lost = (): void => {
  process.exitCode = reportError(new Error('the command lost what it was waiting for'));
};
process.once('beforeExit', lost);
await main(process.argv.slice(2));
process.off('beforeExit', lost);
