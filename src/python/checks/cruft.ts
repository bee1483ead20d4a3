/**
 * What an installer that died, or gave up, leaves lying about: names of temporary files, pip's stash of what it uninstalls
 * (`~ip`), bytecode that was not written to its end. Only what the transaction added and no distribution lists.
 */
import type { Check } from './check.js';
import type { CheckContext } from './context.js';
import type { Finding } from './input.js';
import { mapSome } from './map-some.js';
import { ownersIn } from './owners.js';
import { isBelow } from './tree-index.js';
import { shown } from './words.js';

/** Somewhere in a path: pip's stash (the first letter of a name replaced), `*.tmp`, bytecode before it has its name. */
export const CRUFT = /(?:^|\/)(?:~[^/]+(?=\/|$)|[^/]+\.tmp$|[^/]+\.pyc\.\d+$)/;
/** importlib, pip's distlib and pkg_resources take it for a distribution with a broken name. */
const STASHED_METADATA = /(?:^|\/)~[^/]*\.(?:dist|egg)-info$/;
/** Magic number with its line end, flags, and time and size of the source or its hash. */
const PYC_HEADER_BYTES = 16;

export const cruft: Check = {
  name: 'cruft',
  run: async (context) => [...(await names(context)), ...(await bytecode(context))],
};

async function names(context: CheckContext): Promise<Finding[]> {
  const { kinds, after, directories } = context;
  const tops = new Set<string>();
  for (const [path, kind] of kinds) {
    const match = kind === 'added' ? CRUFT.exec(path) : null;
    if (match) tops.add(path.slice(0, match.index + match[0].length));
  }
  const owners = await Promise.all(directories.map((each) => ownersIn(each, context)));
  return [...tops]
    .filter((top) => kinds.get(top) === 'added' && after.has(top))
    .flatMap((path): Finding[] => {
      const owned = directories.some((each, index) => isBelow(path, each) && owners[index]?.owns(path));
      if (owned || tops.has(path.slice(0, path.lastIndexOf('/')))) return [];
      const stashed = STASHED_METADATA.test(path);
      const message = `${shown(path)} is ${stashed ? 'half of a distribution that pip was replacing' : 'a left-over'}`;
      return [{ severity: stashed ? 'error' : 'warning', check: 'cruft', path, message }];
    });
}

async function bytecode({ kinds, after }: CheckContext): Promise<Finding[]> {
  const paths = [...kinds].filter(([path, kind]) => kind !== 'removed' && path.endsWith('.pyc')).map(([path]) => path);
  const found = await mapSome(paths, async (path): Promise<Finding[]> => {
    const content = await after.read(path);
    const problem = content && problemOf(content);
    if (!problem) return [];
    return [{ severity: 'warning', check: 'cruft', path, message: `${shown(path)} ${problem}` }];
  });
  return found.flat();
}

function problemOf(content: Buffer): string | null {
  if (content.length === 0) return 'is empty: bytecode that was not written';
  // The same in all versions: two bytes of number, and CR LF, which a transfer as text would break.
  if (content[2] !== 0x0d || content[3] !== 0x0a) return 'is no bytecode';
  return content.length <= PYC_HEADER_BYTES ? 'is cut short' : null;
}
