/** The command line of `npm run bench`. */
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

export interface Options {
  /** Names of works and subjects; empty: all. */
  works: string[];
  subjects: string[];
  rounds: number;
  quick: boolean;
  setup: boolean;
  /** Kept between runs: what was downloaded, and the trees. */
  cache: string;
  python: string;
  json: string | null;
  svg: string | null;
}

export const HELP = `npm run bench -- [OPTIONS]
  --work NAME        only this work; may be given several times (--work list: names them)
  --subject NAME     only this one besides plain; may be given several times
  --rounds N         repetitions of each work on each subject (default 7, with --quick 2)
  --quick            a small synthetic tree, 2 rounds, under two minutes
  --setup            install the other filesystems with apt-get first (as root)
  --cache DIR        what is kept between runs (default: siteswap-bench in the temporary directory)
  --python PROGRAM   the interpreter that is measured (default: python3)
  --json FILE        every sample, the machine, the versions
  --svg FILE         a picture of the ratios`;

export class BadOption extends Error {}

export function parseOptions(args: readonly string[]): Options | 'help' {
  let values;
  try {
    ({ values } = parseArgs({
      args: [...args],
      options: {
        work: { type: 'string', multiple: true, default: [] },
        subject: { type: 'string', multiple: true, default: [] },
        rounds: { type: 'string' },
        quick: { type: 'boolean', default: false },
        setup: { type: 'boolean', default: false },
        cache: { type: 'string', default: join(tmpdir(), 'siteswap-bench') },
        python: { type: 'string', default: 'python3' },
        json: { type: 'string' },
        svg: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    }));
  } catch (error) {
    throw new BadOption((error as Error).message, { cause: error });
  }
  if (values.help) return 'help';
  const rounds = Number(values.rounds ?? (values.quick ? 2 : 7));
  if (!Number.isInteger(rounds) || rounds < 1)
    throw new BadOption(`--rounds ${values.rounds}: give a whole number above 0`);
  return {
    works: values.work,
    subjects: values.subject,
    rounds,
    quick: values.quick,
    setup: values.setup,
    cache: resolve(values.cache),
    python: values.python,
    json: values.json === undefined ? null : resolve(values.json),
    svg: values.svg === undefined ? null : resolve(values.svg),
  };
}
