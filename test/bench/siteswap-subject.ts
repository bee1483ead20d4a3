/** siteswap as one of the subjects: compiled, by its command line, without verification (that is work of another kind). */
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { ask } from '../../src/cli/target.js';
import { defaultStorePath } from '../../src/store/layout.js';
import { packageRoot, packageVersion } from '../../src/util/package-root.js';
import { run } from './program.js';
import type { Subject } from './subject.js';

export const CLI: readonly string[] = [process.execPath, join(packageRoot(), 'dist/cli/main.js')];
const OPTIONS = ['--verify', 'none'];

export const siteswap: Subject = {
  name: 'siteswap',
  title: 'siteswap',
  how: `siteswap mount ${OPTIONS.join(' ')}`,
  available() {
    if (!existsSync('/dev/fuse')) return 'there is no /dev/fuse';
    return existsSync(CLI[1]!) ? null : 'not built: npm run build';
  },
  version: async () => packageVersion(),
  tree: ({ site }) => site,
  mount: async ({ site }) => void (await run([...CLI, 'mount', ...OPTIONS, site])),
  unmount: async ({ site }) => void (await run([...CLI, 'unmount', site])),
  asOne: ({ site }) => [...CLI, 'run', site, '--'],
  settle: async ({ site }) => void (await ask(defaultStorePath(site), 'wait', {})),
  requests: async ({ site }) => (await ask(defaultStorePath(site), 'status', {})).counters.requests,
  async cachedIn({ site }, path) {
    const { serverPid } = await ask(defaultStorePath(site), 'status', {});
    return [join(site, path), join(lowerOf(serverPid, site), path)];
  },
};

/** The directory under the mount, which the server holds open since before it was mounted over. */
function lowerOf(serverPid: number, site: string): string {
  const descriptors = `/proc/${serverPid}/fd`;
  const found = readdirSync(descriptors).find((name) => readlinkSync(join(descriptors, name)) === site);
  if (found === undefined) throw new Error(`the server ${serverPid} has no descriptor of ${site}`);
  return join(descriptors, found);
}
