/**
 * What is compared: a directory as it is, and the filesystems that show one with changes kept elsewhere. Each is mounted
 * over (or beside) its own copy of the same tree, with the options that make it fastest without changing what it shows.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { findInPath } from '../../src/cli/host.js';
import { run } from './program.js';
import { siteswap } from './siteswap-subject.js';
import type { Place, Subject } from './subject.js';

const NOTHING = {
  settle: () => Promise.resolve(),
  requests: () => Promise.resolve(null),
};

const kernelVersion = async (): Promise<string> => (await run(['uname', '-r'])).stdout.trim();

const plain: Subject = {
  ...NOTHING,
  name: 'plain',
  title: 'plain directory',
  how: 'the directory itself',
  available: () => null,
  version: kernelVersion,
  tree: ({ site }) => site,
  mount: () => Promise.resolve(),
  unmount: () => Promise.resolve(),
  cachedIn: ({ site }, path) => Promise.resolve([join(site, path)]),
};

interface Layered {
  name: string;
  title: string;
  how: string;
  available: () => string | null;
  version: () => Promise<string>;
  command: (layers: { lower: string; upper: string; work: string; site: string }) => string[];
}

function layered({ command, ...rest }: Layered): Subject {
  const lower = ({ home }: Place): string => join(home, 'lower');
  return {
    ...NOTHING,
    ...rest,
    tree: lower,
    async mount(place) {
      const upper = join(place.home, 'upper');
      const work = join(place.home, 'work');
      for (const directory of [upper, work]) mkdirSync(directory, { recursive: true });
      await run(command({ lower: lower(place), upper, work, site: place.site }));
    },
    unmount: async ({ site }) => void (await run(['umount', site])),
    cachedIn: (place, path) => Promise.resolve([join(place.site, path), join(lower(place), path)]),
  };
}

const overlayfs = layered({
  name: 'overlayfs',
  title: 'kernel overlayfs',
  how: 'mount -t overlay',
  available: () => (process.geteuid?.() === 0 ? null : 'only root may mount it: run as root'),
  version: kernelVersion,
  command: ({ lower, upper, work, site }) => [
    'mount',
    '-t',
    'overlay',
    'overlay',
    '-o',
    `lowerdir=${lower},upperdir=${upper},workdir=${work}`,
    site,
  ],
});

/** What Debian calls the package of each program. */
const PACKAGES: Record<string, string> = {
  'fuse-overlayfs': 'fuse-overlayfs',
  mergerfs: 'mergerfs',
  unionfs: 'unionfs-fuse',
};
export const DEBIAN_PACKAGES: readonly string[] = Object.values(PACKAGES);

function program(name: string): Pick<Layered, 'available' | 'version'> {
  const install = `not installed: apt-get install ${PACKAGES[name]} (or --setup)`;
  return {
    available: () => (findInPath(name) === null ? install : existsSync('/dev/fuse') ? null : 'there is no /dev/fuse'),
    version: async () => {
      const { stdout } = await run(['dpkg-query', '-W', '-f', '${Version}', PACKAGES[name]!]);
      return stdout.trim();
    },
  };
}

const fuseOverlayfs = layered({
  name: 'fuse-overlayfs',
  title: 'fuse-overlayfs',
  // Its timeouts are for ever by itself.
  how: 'defaults',
  ...program('fuse-overlayfs'),
  command: ({ lower, upper, work, site }) => [
    'fuse-overlayfs',
    '-o',
    `lowerdir=${lower},upperdir=${upper},workdir=${work}`,
    site,
  ],
});

const MERGERFS =
  'cache.files=full,cache.readdir=true,cache.symlinks=true,cache.entry=86400,cache.negative_entry=86400,' +
  'cache.attr=86400,dropcacheonclose=false,category.create=ff,allow_other';
const mergerfs = layered({
  name: 'mergerfs',
  title: 'mergerfs',
  how: `-o ${MERGERFS}`,
  ...program('mergerfs'),
  command: ({ lower, upper, site }) => ['mergerfs', '-o', MERGERFS, `${upper}:${lower}`, site],
});

const UNIONFS = 'cow,kernel_cache,entry_timeout=86400,negative_timeout=86400,attr_timeout=86400,allow_other';
const unionfs = layered({
  name: 'unionfs-fuse',
  title: 'unionfs-fuse',
  how: `-o ${UNIONFS}`,
  ...program('unionfs'),
  command: ({ lower, upper, site }) => ['unionfs', '-o', UNIONFS, `${upper}=RW:${lower}=RO`, site],
});

/** The first one is what all ratios are to. */
export const SUBJECTS: readonly Subject[] = [plain, overlayfs, siteswap, fuseOverlayfs, mergerfs, unionfs];
