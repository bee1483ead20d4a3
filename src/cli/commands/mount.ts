/**
 * `siteswap mount`: starts the daemon over DIR and returns when it serves. Everything that can be found out without
 * changing anything is checked here first, each with its own exit code; the daemon checks what only it can know.
 */
import { accessSync, constants } from 'node:fs';
import { resolve } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { InvalidArgumentError, Option, type Command } from 'commander';
import { listMounts } from '../../daemon/mountinfo.js';
import { ALL_CHECKS, LEVELS, readConfig } from '../../daemon/config.js';
import type { MountOptions, VerifySettings } from '../../daemon/keeper-protocol.js';
import { startKeeper } from '../../daemon/start.js';
import { defaultStorePath } from '../../store/layout.js';
import { describe, SiteswapError } from '../../util/errors.js';
import { collect, parsePin } from '../arguments.js';
import { deviceProblem, findInPath } from '../host.js';
import { tell } from '../output.js';
import { withProgress, type Report } from '../progress.js';
import { locate, requireDirectory } from '../target.js';

const INTERRUPTED = 130;

interface Options {
  store?: string;
  foreground?: true;
  commit: MountOptions['commit'];
  verify?: VerifySettings['level'];
  check: string[];
  skipCheck: string[];
  pin: MountOptions['pin'];
  backend: string;
}

export function addMount(program: Command): void {
  program
    .command('mount')
    .description('mount over DIR, and return when it serves')
    .argument('[DIR]', 'site-packages or a whole environment; default: the active environment’s purelib')
    .option('--store <DIR>', 'where layers and history are kept; default: .NAME.siteswap beside DIR')
    .option('--foreground', 'stay, and end when it is unmounted')
    .addOption(
      new Option('--commit <WHEN>', 'whether an installer that succeeded is committed by itself')
        .choices(['auto', 'manual'])
        .default('auto'),
    )
    .addOption(
      new Option(
        '--verify <LEVEL>',
        'what is checked before a commit; default: import, or as siteswap.toml has it',
      ).choices(LEVELS),
    )
    .option(
      '--check <CMD>',
      'a test of your own, run in the staged tree before each commit; again for more',
      collect,
      [],
    )
    .addOption(
      new Option('--skip-check <NAME>', 'switch a check off; again for more').argParser(parseCheck).default([], 'none'),
    )
    .addOption(
      new Option(
        '--pin <HOW>',
        'how long a process keeps the generation that it started with: process, lease:SECONDS, none',
      )
        .argParser(parsePin)
        .default('process'),
    )
    .addOption(new Option('--backend <NAME>', 'what serves the mount').choices(['native']).default('native'))
    .action(async (dir: string | undefined, options: Options) => {
      await mount(await mountOptions(dir, options));
    });
}

function parseCheck(name: string, before: string[] = []): string[] {
  if (!ALL_CHECKS.includes(name)) throw new InvalidArgumentError(`Checks are ${ALL_CHECKS.join(', ')}.`);
  return [...before, name];
}

async function mountOptions(dir: string | undefined, options: Options): Promise<MountOptions> {
  const { directory, mount: over } = await locate(dir);
  const nested = over ?? listMounts().find(({ mountpoint }) => mountpoint.startsWith(`${directory}/`));
  if (nested) {
    throw nested.mountpoint === directory
      ? new SiteswapError('ALREADY_MOUNTED', `siteswap is already mounted over ${directory}`, `siteswap status`)
      : new SiteswapError(
          'ALREADY_MOUNTED',
          `siteswap is already mounted over ${nested.mountpoint}, and ${directory} can't be mounted over besides`,
          `siteswap unmount ${nested.mountpoint}`,
        );
  }
  requireDirectory(directory);
  const store = options.store === undefined ? defaultStorePath(directory) : resolve(options.store);
  if (store === directory || store.startsWith(`${directory}/`)) {
    throw new SiteswapError('USAGE', `the store ${store} would be hidden by the mount`, 'Choose one outside of DIR.');
  }
  requireHost(directory);
  const { commit, pin, backend } = options;
  const foreground = options.foreground ?? false;
  const configured = await readConfig(store);
  const verify: VerifySettings = {
    ...configured,
    level: options.verify ?? configured.level,
    commands: [...configured.commands, ...options.check],
    skip: [...configured.skip, ...options.skipCheck],
  };
  return { directory, store, foreground, commit, verify, pin, backend, generation: null };
}

function requireHost(directory: string): void {
  const problem = deviceProblem();
  if (problem) throw problem;
  if (process.geteuid?.() === 0) return;
  if (findInPath('fusermount3') === null) {
    throw new SiteswapError(
      'HOST_REQUIREMENT',
      'fusermount3 is not installed',
      'Install the package fuse3, or mount as root.',
    );
  }
  try {
    accessSync(directory, constants.W_OK);
  } catch (error) {
    throw new SiteswapError('NO_RIGHTS', `you may not write to ${directory}`, 'Mount as its owner or as root.', {
      cause: error,
    });
  }
}

async function mount(options: MountOptions): Promise<void> {
  const { directory, store } = options;
  const start = (report: Report): Promise<void> =>
    startKeeper(options, {
      onProgress: report,
      onNotice: tell,
      onReady: () => tell(`mounted over ${directory}`),
    });
  const interruption = new Interruption(options.foreground);
  try {
    await (options.foreground ? start(tell) : withProgress(`mount ${directory}`, start));
  } catch (error) {
    if (!(await interruption.came())) throw error;
    tell(`Interrupted: ${describe(error)}.`);
    process.exitCode = INTERRUPTED;
    return;
  }
  if (options.foreground) return;
  if (await interruption.came()) {
    await undo(directory, store);
    process.exitCode = INTERRUPTED;
    return;
  }
  tell(`mounted over ${directory}`);
}

/**
 * A signal while it is being mounted. In the foreground it goes to the daemon too, which ends the mount. Otherwise the
 * daemon has a session of its own and is not interrupted with this process: what it begins it ends, and then it is
 * undone. Who can't wait interrupts twice.
 */
class Interruption {
  #came = false;

  constructor(isForeground: boolean) {
    const interrupt = (): void => {
      if (!isForeground) {
        if (this.#came) process.exit(INTERRUPTED);
        tell('Interrupted: waiting for the daemon to unmount.');
      }
      this.#came = true;
    };
    process.on('SIGINT', interrupt).on('SIGTERM', interrupt);
  }

  /** Node tells of signals last: one may have ended the daemon that was heard of just now. */
  async came(): Promise<boolean> {
    await nextTurn();
    return this.#came;
  }
}

/** Another command may have mounted over it as well, or instead: with another store. */
async function undo(directory: string, store: string): Promise<void> {
  const mount = listMounts().find((each) => each.mountpoint === directory && each.store === store);
  if (mount === undefined) return;
  // Mostly there is nothing to undo, and the command is quick.
  const { endMount } = await import('../end-mount.js');
  await endMount(mount, { force: true });
}
