/**
 * What an import costs when one generation is alive and the kernel has everything in its caches: counted by the server,
 * which sees every request there is.
 *
 * No LOOKUP, no GETATTR, no OPENDIR, no READDIR and no READ, but to list the root, by which the process is met; and the IOCTL
 * that CPython before 3.14 sends for each file it opens.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ControlClient } from '../../src/daemon/control-client.js';
import { defaultStorePath } from '../../src/store/layout.js';
import { mountedVenv } from '../helpers/mounted-venv.js';
import { countRequests, fewest, showCounts, type RequestCounts } from '../helpers/request-counts.js';
import { PIP_INSTALL, versionedWheel } from '../helpers/versioned-package.js';

const TIMEOUT_MS = 5 * 60_000;
const MODULES = 300;
const IMPORTS = 4;
const ROUNDS = 3;
/** Of the root, by one Python: `site` looks for `.pth` files, and each finder that is asked for a name takes a listing. */
const MOST_ROOT_LISTINGS = 4;

const IMPORT = `
import importlib, json, xml.dom.minidom, pkg, pkg.lazy
for i in range(${MODULES}): importlib.import_module(f'pkg.deep.part_{i}')
for name in ('missing', 'pkg.missing'):
    try: importlib.import_module(name)
    except ImportError: pass
`;

/** Everything below the root, named, opened and read, by a process that never lists the root; and the root's own stat. */
const WALK = `
import os, sys
root = sys.argv[1]
os.stat(root)
for top in sys.argv[2:]:
    for folder, _, files in os.walk(f'{root}/{top}'):
        os.stat(folder)
        for name in files:
            path = os.path.join(folder, name)
            os.lstat(path)
            with open(path, 'rb') as file:
                file.read()
                os.fstat(file.fileno())
for name in ('missing', 'pkg/missing'): assert not os.path.exists(f'{root}/{name}')
`;

/**
 * What is read is read at one GETATTR each: by a listing in two requests (a page, and its end), or by a READ. That is the
 * root's listing, and what a host that is short of memory took away.
 */
function assertCached(counts: RequestCounts, rootListings: number): void {
  const number = (name: string): number => counts[name] ?? 0;
  const never = ['LOOKUP', 'GETXATTR', 'ACCESS', 'STATX', 'OPEN', 'OPENDIR', 'RELEASEDIR'];
  for (const name of never) assert.equal(number(name), 0, showCounts(counts));
  const listed = (number('READDIR') + number('READDIRPLUS')) / 2;
  assert.ok(number('GETATTR') <= listed + number('READ'), showCounts(counts));
  assert.ok(listed < rootListings + IMPORTS && number('READ') <= 5, showCounts(counts));
}

test('steady state: an import asks for nothing that is cached', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t, {
    prepare: async (venv, work) => {
      await venv.run('pip', [...PIP_INSTALL, versionedWheel(work, { version: '1.0.0', serial: 0 }, MODULES)]);
      await venv.run(venv.python, ['-m', 'compileall', '-q', venv.sitePackages]);
    },
  });
  // Not the scan of the original directory, but what a commit has made.
  await mounted.must('pip', ...PIP_INSTALL, versionedWheel(mounted.work, { version: '2.0.0', serial: 1 }, MODULES));
  await mounted.settle();
  const daemon = await ControlClient.connect(defaultStorePath(mounted.site));
  t.after(() => daemon.close());
  const measure = async (name: string, work: () => Promise<unknown>): Promise<RequestCounts> => {
    await work();
    await work();
    const rounds: RequestCounts[] = [];
    for (let round = 0; round < ROUNDS; round++) rounds.push(await countRequests(daemon, work));
    t.diagnostic(`${name}: ${showCounts(fewest(rounds))}`);
    return fewest(rounds);
  };

  const tops = ['pkg', 'pkg-2.0.0.dist-info', 'pip'];
  const walk = await measure('every file below the root named and read', () =>
    mounted.must(mounted.python, '-S', '-c', WALK, mounted.site, ...tops),
  );
  assertCached(walk, 0);

  const imports = await measure(`${IMPORTS} imports of ${MODULES} modules`, async () => {
    for (let i = 0; i < IMPORTS; i++) await mounted.must(mounted.python, '-c', IMPORT);
  });
  assertCached(imports, IMPORTS * MOST_ROOT_LISTINGS);
  await mounted.unmount();
});
