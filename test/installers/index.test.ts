/**
 * Real packages: the same commands in an environment with siteswap over it and in a plain one have to say the same and
 * leave the same files. Without a package index the test is skipped, by name.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { mountedVenv } from '../helpers/mounted-venv.js';
import { downloadFromIndex } from '../helpers/package-index.js';
import { diffTrees, listTree, type TreeListing } from '../helpers/tree-hash.js';
import { makeVenv } from '../helpers/venv.js';

const TIMEOUT_MS = 10 * 60_000;
const OLD = ['requests==2.31.0', 'numpy==1.26.4', 'django==4.2.7'];
const NEW = ['requests==2.32.3', 'numpy==2.1.3', 'django==5.1.3'];

const USE = `
import importlib.metadata as m
import django, django.db.models, django.template, numpy, numpy.linalg, requests
assert round(float(numpy.linalg.det(numpy.eye(3) * 2)), 6) == 8.0
assert requests.Request('GET', 'https://example.org/').prepare().url == 'https://example.org/'
for module, name in ((requests, 'requests'), (numpy, 'numpy'), (django, 'django')):
    version = module.get_version() if name == 'django' else module.__version__
    assert version == m.version(name), (name, version, m.version(name))
    print(name, version)
`;

/** What must be alike: not bytecode and what embeds the path of the environment, which differ by their nature. */
function comparable(listing: TreeListing): TreeListing {
  const kept = [...listing].map(([path, line]): [string, string] => {
    const stable = line.replace(/ mtime=\d+/, '');
    return [path, /\.pyc$|\/RECORD$/.test(path) ? stable.replace(/ size=.*/, '') : stable];
  });
  return new Map(kept.filter(([path]) => path !== ''));
}

test(
  'requests, numpy, django: install, upgrade, check, list, uninstall as on a plain directory',
  {
    timeout: TIMEOUT_MS,
  },
  async (t) => {
    const mounted = await mountedVenv(t);
    const links = await downloadFromIndex(mounted.work, [...OLD, ...NEW]);
    if (links === null) return t.skip('skipped: no package index');
    const plain = makeVenv(join(mounted.work, 'plain'));

    const both = async (what: string, program: 'pip' | 'python', ...args: string[]): Promise<void> => {
      const times = [performance.now()];
      const there = await plain.run(program, args);
      times.push(performance.now());
      const here = await mounted.venv.run(program, args);
      times.push(performance.now());
      const [plainSeconds, seconds] = [1, 2].map((i) => ((times[i]! - times[i - 1]!) / 1000).toFixed(1));
      const words = (text: string): string =>
        text.replaceAll(plain.prefix, 'VENV').replaceAll(mounted.venv.prefix, 'VENV');
      assert.deepEqual(
        { code: here.code, stdout: words(here.stdout), stderr: words(here.stderr) },
        { code: there.code, stdout: words(there.stdout), stderr: words(there.stderr) },
        `${what}${mounted.serverLog()}`,
      );
      assert.equal(there.code, 0, `${what}: ${there.stderr}`);
      t.diagnostic(`${what}: alike; ${seconds} s, plain ${plainSeconds} s`);
    };
    const sameTrees = async (what: string): Promise<void> => {
      const trees = [comparable(listTree(plain.sitePackages)), comparable(await mounted.listing())] as const;
      assert.deepEqual(diffTrees(...trees), [], what);
      t.diagnostic(`${what}: ${trees[0].size} entries alike`);
    };
    const install = ['install', '--quiet', '--no-index', '--find-links', links];

    await both('install', 'pip', ...install, ...OLD);
    await sameTrees('install');
    await both('import', 'python', '-c', USE);
    await both('check', 'pip', 'check');
    await both('upgrade', 'pip', ...install, '--upgrade', ...NEW);
    await sameTrees('upgrade');
    await both('import', 'python', '-c', USE);
    await both('check', 'pip', 'check');
    await both('list', 'pip', 'list');
    await both('show', 'pip', 'show', '--files', 'requests');
    await both('downgrade', 'pip', ...install, OLD[1]!);
    await both('import', 'python', '-c', USE);
    await both('uninstall', 'pip', 'uninstall', '--yes', 'numpy', 'django', 'requests');
    await sameTrees('uninstall');
    await both('list', 'pip', 'list', '--format=freeze');
    const changes = (await mounted.log()).flatMap(({ packages }) => packages.filter(({ name }) => name === 'numpy'));
    assert.deepEqual(changes.map(({ from, to }) => `${from} → ${to}`).reverse(), [
      'null → 1.26.4',
      '1.26.4 → 2.1.3',
      '2.1.3 → 1.26.4',
      '1.26.4 → null',
    ]);
    await mounted.unmount();
  },
);
