/** The kinds of writers: each loops over its own distributions until it is told to stop. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Installs, Runner, Wish } from './installs.js';
import type { Random } from './random.js';

export const WRITER_KINDS = ['upgrade', 'uninstall', 'kill', 'race'] as const;
export type WriterKind = (typeof WRITER_KINDS)[number];

/** Which distributions a kind of writer works on; no two kinds share one, so each one's order is known. */
export const DISTRIBUTIONS_OF: Record<WriterKind, readonly string[]> = {
  upgrade: ['sscheck_alpha', 'sscheck_beta'],
  uninstall: ['sscheck_gamma'],
  kill: ['sscheck_delta'],
  race: ['sscheck_epsilon', 'sscheck_zeta', 'sscheck_eta'],
};

export interface WriterContext {
  installs: Installs;
  /** Two, for those that do two things at once. */
  runners: readonly [Runner, Runner];
  random: Random;
  pauseMs: number;
  pipShare: number;
  goesOn: () => boolean;
  /** After installs that may have been refused. */
  dropRefused: () => Promise<void>;
}

const MAJORS = 9;

export async function write(kind: WriterKind, context: WriterContext): Promise<void> {
  const { random, pauseMs, goesOn } = context;
  while (goesOn()) {
    await TURNS[kind](context);
    await sleep(random.between(0, 2 * pauseMs));
  }
}

type Turn = (context: WriterContext) => Promise<void>;

const TURNS: Record<WriterKind, Turn> = {
  /** Upgrades and downgrades. */
  async upgrade(context) {
    await run(context, 0, install(context, context.random.pick(DISTRIBUTIONS_OF.upgrade)));
  },

  /** Uninstalls, and installs again. */
  async uninstall(context) {
    const name = context.random.pick(DISTRIBUTIONS_OF.uninstall);
    await run(context, 0, { ...install(context, name), value: null });
    await sleep(context.random.between(0, context.pauseMs));
    await run(context, 0, install(context, name));
  },

  /** Some of them come through. */
  async kill(context) {
    const { random } = context;
    const wish = install(context, random.pick(DISTRIBUTIONS_OF.kill));
    if (random.chance(0.7)) wish.killAfterMs = random.between(10, 250);
    await run(context, 0, wish);
  },

  /** Two at once: on the same distribution, or on two. */
  async race(context) {
    const { random } = context;
    const [same, one, other] = DISTRIBUTIONS_OF.race as [string, string, string];
    const contended = random.chance(0.5);
    const names: [string, string] = contended ? [same, same] : [one, other];
    const late = random.between(0, 60);
    await Promise.all([
      run(context, 0, { ...install(context, names[0]), contended }),
      sleep(late).then(() => run(context, 1, { ...install(context, names[1]), contended })),
    ]);
    if (contended) await context.dropRefused();
  },
};

function install({ installs, random, pipShare }: WriterContext, name: string): Wish {
  const look = random.chance(0.5) ? random.pick(['import', 'walk', 'entry-points'] as const) : undefined;
  const withPip = random.chance(pipShare);
  const notebook = look !== undefined && random.chance(0.4);
  return { name, value: installs.newVersion(1 + random.integer(MAJORS)), withPip, notebook, ...(look && { look }) };
}

async function run({ installs, runners }: WriterContext, runner: 0 | 1, wish: Wish): Promise<void> {
  await installs.run(runners[runner], wish);
}
