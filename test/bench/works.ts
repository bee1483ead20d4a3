/**
 * The works, by name. Each repetition is a process (or a few) of its own that looks at the subject's tree; what comes before
 * and after it is not timed.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAnswer, run, WORK, type Answer } from './program.js';
import { BIG_FILE, type Materials } from './stack.js';
import type { Place, Subject } from './subject.js';

export interface Site {
  subject: Subject;
  place: Place;
  materials: Materials;
  /** Of the subject's environment. */
  python: string;
  env: NodeJS.ProcessEnv;
}

export interface Sample extends Answer {
  /** Until the result was visible to everybody, after the process had ended. */
  settleSeconds?: number;
}

export interface Work {
  name: string;
  title: string;
  /** Runs that are not counted, so that caches are as full as they get. */
  warmUps: number;
  /** At most so many rounds, because one is expensive. */
  mostRounds?: number;
  needsRoot?: boolean;
  needsBigFile?: boolean;
  available?: (materials: Materials) => string | null;
  before?: (site: Site) => Promise<void>;
  run: (site: Site, round: number) => Promise<Sample>;
  after?: (site: Site) => Promise<void>;
}

/** work.py by the base interpreter, which takes nothing from the tree. */
async function worker(site: Site, ...words: string[]): Promise<Sample> {
  return parseAnswer((await run([site.materials.interpreter, '-I', '-S', WORK, ...words], { env: site.env })).stdout);
}

async function importStack(site: Site): Promise<Sample> {
  const command = [site.python, WORK, 'import', ...site.materials.stack.imports];
  return parseAnswer((await run(command, { env: site.env })).stdout);
}

/** A whole program, timed from outside, and then how long until everybody sees what it wrote. */
async function writer(site: Site, ...command: string[]): Promise<Sample> {
  const answer = await worker(site, 'run', ...command);
  const began = performance.now();
  await site.subject.settle(site.place);
  return { ...answer, settleSeconds: (performance.now() - began) / 1000 };
}

async function quietly(site: Site, ...command: string[]): Promise<void> {
  await writer(site, ...command);
}

export async function dropCaches(): Promise<void> {
  await run(['sync']);
  writeFileSync('/proc/sys/vm/drop_caches', '3');
}

async function remount({ subject, place }: Site): Promise<void> {
  await subject.unmount(place);
  await subject.mount(place);
}

const big = (site: Site): string => join(site.place.site, site.materials.stack.bigPackage);
const file = (site: Site): string => join(site.place.site, BIG_FILE);
const copy = (site: Site): string => join(site.place.site, 'bench-copy');
const pip = (site: Site, ...words: string[]): string[] => [site.python, '-m', 'pip', ...words];
const PIP_INSTALL = ['install', '-q', '--no-index', '--no-deps', '--no-cache-dir'];
const uvMissing = ({ uv }: Materials): string | null => (uv === null ? 'uv can’t be had' : null);

function uv(site: Site, ...words: string[]): string[] {
  return [site.materials.uv!, 'pip', ...words, '-q', '--offline', '--no-cache', '--python', site.python];
}

/** Of the peers nothing: they have no transactions. */
const asOne = ({ subject, place }: Site): readonly string[] => subject.asOne?.(place) ?? [];

export const WORKS: readonly Work[] = [
  { name: 'import', title: 'import of the stack, warm', warmUps: 3, run: importStack },
  {
    name: 'pip-install',
    title: 'pip install, 1,500 files',
    warmUps: 1,
    mostRounds: 5,
    run: (site) => writer(site, ...pip(site, ...PIP_INSTALL, site.materials.wheel)),
    after: (site) => quietly(site, ...pip(site, 'uninstall', '-q', '-y', 'bench-large')),
  },
  {
    name: 'uv-install',
    title: 'uv pip install, 1,500 files',
    warmUps: 1,
    mostRounds: 5,
    available: uvMissing,
    run: (site) => writer(site, ...uv(site, 'install', '--no-index', '--no-deps'), site.materials.wheel),
    after: (site) => quietly(site, ...uv(site, 'uninstall'), 'bench-large'),
  },
  {
    name: 'pip-install-run',
    title: 'pip install, 1,500 files, by siteswap run',
    warmUps: 1,
    mostRounds: 5,
    run: (site) => writer(site, ...asOne(site), ...pip(site, ...PIP_INSTALL, site.materials.wheel)),
    after: (site) => quietly(site, ...asOne(site), ...pip(site, 'uninstall', '-q', '-y', 'bench-large')),
  },
  {
    name: 'uv-install-run',
    title: 'uv pip install, 1,500 files, by siteswap run',
    warmUps: 1,
    mostRounds: 5,
    available: uvMissing,
    run: (site) =>
      writer(site, ...asOne(site), ...uv(site, 'install', '--no-index', '--no-deps'), site.materials.wheel),
    after: (site) => quietly(site, ...asOne(site), ...uv(site, 'uninstall'), 'bench-large'),
  },
  { name: 'walk', title: 'stat walk, warm', warmUps: 2, run: (site) => worker(site, 'walk', site.place.site) },
  {
    name: 'scan',
    title: 'lstat of every known path, warm',
    warmUps: 2,
    run: (site) => worker(site, 'scan', site.place.site),
  },
  {
    name: 'read-all',
    title: 'read all small files, warm',
    warmUps: 2,
    run: (site) => worker(site, 'read-all', site.place.site),
  },
  {
    name: 'misses',
    title: '100,000 misses, asked before',
    warmUps: 1,
    run: (site) => worker(site, 'misses', site.place.site, 'again'),
  },
  {
    name: 'misses-new',
    title: '10,000 misses, never asked before',
    warmUps: 0,
    run: (site, round) => worker(site, 'misses', site.place.site, `${process.pid}-${round}`),
  },
  {
    name: 'import-cold',
    title: 'import of the stack, cold',
    warmUps: 0,
    mostRounds: 5,
    needsRoot: true,
    before: dropCaches,
    run: importStack,
  },
  {
    name: 'walk-cold',
    title: 'stat walk, cold',
    warmUps: 0,
    mostRounds: 5,
    needsRoot: true,
    before: dropCaches,
    run: (site) => worker(site, 'walk', site.place.site),
  },
  {
    name: 'read-all-cold',
    title: 'read all small files, cold',
    warmUps: 0,
    mostRounds: 3,
    needsRoot: true,
    before: dropCaches,
    run: (site) => worker(site, 'read-all', site.place.site),
  },
  {
    name: 'import-mounted',
    title: 'import, first after mount',
    warmUps: 0,
    mostRounds: 5,
    before: remount,
    run: importStack,
  },
  {
    name: 'import-committed',
    title: 'import, first after a change',
    warmUps: 1,
    mostRounds: 5,
    before: (site) => quietly(site, 'touch', join(site.place.site, 'bench-marker.py')),
    run: importStack,
    after: (site) => quietly(site, 'rm', '-f', join(site.place.site, 'bench-marker.py')),
  },
  {
    name: 'start',
    title: 'python -c pass',
    warmUps: 1,
    run: (site) => worker(site, 'start', '20', site.python, '-c', 'pass'),
  },
  {
    name: 'pip-list',
    title: 'pip list',
    warmUps: 1,
    run: (site) => worker(site, 'start', '1', ...pip(site, 'list', '-q')),
  },
  {
    name: 'together-2',
    title: 'import, 2 processes at once',
    warmUps: 1,
    run: (site) => worker(site, 'together', '2', site.python, WORK, 'import', ...site.materials.stack.imports),
  },
  {
    name: 'together-4',
    title: 'import, 4 processes at once',
    warmUps: 1,
    mostRounds: 5,
    run: (site) => worker(site, 'together', '4', site.python, WORK, 'import', ...site.materials.stack.imports),
  },
  {
    name: 'big-cold',
    needsBigFile: true,
    title: 'read one big file, cold',
    warmUps: 0,
    mostRounds: 3,
    needsRoot: true,
    before: dropCaches,
    run: (site) => worker(site, 'read-big', file(site)),
  },
  {
    name: 'big-warm',
    needsBigFile: true,
    title: 'read one big file, warm',
    warmUps: 1,
    run: (site) => worker(site, 'read-big', file(site)),
  },
  {
    name: 'big-mmap',
    needsBigFile: true,
    title: 'mmap one big file, warm',
    warmUps: 1,
    run: (site) => worker(site, 'map-big', file(site)),
  },
  {
    name: 'big-memory',
    needsBigFile: true,
    title: 'bytes in caches after reading one big file',
    warmUps: 0,
    mostRounds: 1,
    needsRoot: true,
    before: dropCaches,
    async run(site) {
      await worker(site, 'read-big', file(site));
      return worker(site, 'resident', ...(await site.subject.cachedIn(site.place, BIG_FILE)));
    },
  },
  {
    name: 'copy',
    title: 'cp -r of a big package',
    warmUps: 0,
    mostRounds: 5,
    run: (site) => writer(site, 'cp', '-r', big(site), copy(site)),
    after: (site) => quietly(site, 'rm', '-rf', copy(site)),
  },
  {
    name: 'extract',
    title: 'tar x of a big package',
    warmUps: 0,
    mostRounds: 5,
    async before(site) {
      await quietly(site, 'mkdir', copy(site));
    },
    run: (site) => writer(site, 'tar', '-C', copy(site), '-xf', site.materials.archive),
    after: (site) => quietly(site, 'rm', '-rf', copy(site)),
  },
  {
    name: 'remove',
    title: 'rm -rf of a big package',
    warmUps: 0,
    mostRounds: 5,
    before: (site) => quietly(site, 'cp', '-r', big(site), copy(site)),
    run: (site) => writer(site, 'rm', '-rf', copy(site)),
  },
  {
    name: 'rename',
    title: 'rename of a big directory',
    warmUps: 0,
    mostRounds: 5,
    async run(site) {
      const answer = await worker(site, 'rename', big(site));
      await site.subject.settle(site.place);
      return answer;
    },
  },
  {
    name: 'pip-uninstall',
    title: 'pip uninstall, 1,500 files',
    warmUps: 0,
    mostRounds: 5,
    before: (site) => quietly(site, ...pip(site, ...PIP_INSTALL, site.materials.wheel)),
    run: (site) => writer(site, ...pip(site, 'uninstall', '-q', '-y', 'bench-large')),
  },
  {
    name: 'pip-install-30',
    title: 'pip install, 30 packages',
    warmUps: 0,
    mostRounds: 3,
    run: (site) =>
      writer(
        site,
        ...pip(
          site,
          ...PIP_INSTALL,
          '--find-links',
          site.materials.manyWheels.directory,
          ...site.materials.manyWheels.names,
        ),
      ),
    after: (site) => quietly(site, ...pip(site, 'uninstall', '-q', '-y', ...site.materials.manyWheels.names)),
  },
  {
    name: 'uv-install-30',
    title: 'uv pip install, 30 packages',
    warmUps: 0,
    mostRounds: 3,
    available: uvMissing,
    run: (site) =>
      writer(
        site,
        ...uv(site, 'install', '--no-index', '--no-deps', '--find-links', site.materials.manyWheels.directory),
        ...site.materials.manyWheels.names,
      ),
    after: (site) => quietly(site, ...uv(site, 'uninstall'), ...site.materials.manyWheels.names),
  },
  {
    name: 'compileall',
    title: 'python -m compileall of a big package',
    warmUps: 0,
    mostRounds: 3,
    before: (site) => quietly(site, 'cp', '-r', big(site), copy(site)),
    run: (site) => writer(site, site.python, '-m', 'compileall', '-q', '-f', copy(site)),
    after: (site) => quietly(site, 'rm', '-rf', copy(site)),
  },
];
