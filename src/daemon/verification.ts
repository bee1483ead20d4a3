/**
 * What a commit is checked for, and what it does to distributions, from the names and metadata of `.dist-info` and
 * `.egg-info` in the transaction's tree and in the tree it started from.
 *
 * `--verify none` checks nothing; any other level refuses a `.dist-info` without METADATA or RECORD: that is what an
 * install that was cut short leaves. Called by txn/commit through the server.
 */
import type { PackageChange } from '../store/generation.js';
import type { Finding, Verify } from '../txn/commit.js';
import type { EnginePort, PathChange, TreeView } from '../txn/engine-port.js';
import { systemCode } from '../util/errors.js';
import type { MountOptions } from './keeper-protocol.js';

type Tree = Pick<EnginePort, 'list' | 'read'>;

const REQUIRED = ['METADATA', 'RECORD'];

export function createVerify(tree: Tree, options: Pick<MountOptions, 'verify'>): Verify {
  return async (transaction, changes) => {
    const [before, after]: TreeView[] = [{ generation: transaction.base }, { transaction: transaction.id }];
    const findings: Finding[] = [];
    const was = new Map<string, string>();
    const is = new Map<string, string>();
    for (const path of metadataPaths(changes)) {
      const old = await readDistribution(tree, before!, path);
      const now = await readDistribution(tree, after!, path);
      if (old) was.set(old.name, old.version);
      if (now) is.set(now.name, now.version);
      if (options.verify !== 'none') findings.push(...missingFiles(tree, after!, path));
    }
    return { findings, packages: packageChanges(was, is) };
  };
}

/** The metadata directories (or, for old egg-info, files) that were touched, each once. */
export function metadataPaths(changes: readonly PathChange[]): string[] {
  const paths = new Set<string>();
  for (const { path } of changes) {
    const match = /^(?:.*?\/)?[^/]+\.(?:dist|egg)-info(?=\/|$)/.exec(path.toString('latin1'));
    if (match) paths.add(match[0]);
  }
  return [...paths].sort();
}

export function packageChanges(was: ReadonlyMap<string, string>, is: ReadonlyMap<string, string>): PackageChange[] {
  return [...new Set([...was.keys(), ...is.keys()])]
    .map((name) => ({ name, from: was.get(name) ?? null, to: is.get(name) ?? null }))
    .filter(({ from, to }) => from !== to)
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function missingFiles(tree: Tree, view: TreeView, path: string): Finding[] {
  if (!path.endsWith('.dist-info')) return [];
  const names = listNames(tree, view, path);
  if (names === null) return [];
  return REQUIRED.filter((name) => !names.has(name)).map((name) => ({
    severity: 'error',
    message: `${path} has no ${name}`,
  }));
}

/** Null when there is no such directory in this view. */
function listNames(tree: Tree, view: TreeView, path: string): Set<string> | null {
  try {
    return new Set(tree.list(view, Buffer.from(path, 'latin1')).map(({ name }) => name.toString('latin1')));
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw error;
  }
}

/** Name and version from the metadata, else from the directory's name; null when it does not exist in this view. */
async function readDistribution(
  tree: Tree,
  view: TreeView,
  path: string,
): Promise<{ name: string; version: string } | null> {
  const names = listNames(tree, view, path);
  const file = names === null ? path : names.has('METADATA') ? `${path}/METADATA` : `${path}/PKG-INFO`;
  let text = '';
  try {
    text = (await tree.read(view, Buffer.from(file, 'latin1'))).toString('utf8');
  } catch {
    if (names === null) return null;
  }
  const [, stem = ''] = /([^/]+)\.(?:dist|egg)-info$/.exec(path) ?? [];
  const [stemName = stem, stemVersion = ''] = stem.split('-');
  const name = metadataField(text, 'Name') ?? stemName;
  return { name: normalised(name), version: metadataField(text, 'Version') ?? stemVersion };
}

/** From the header only: a description may say anything. */
export function metadataField(text: string, field: string): string | null {
  const header = text.split(/\r?\n\r?\n/, 1)[0]!;
  return new RegExp(`^${field}:[ \\t]*(\\S.*?)\\s*$`, 'mi').exec(header)?.[1] ?? null;
}

/** PEP 503. */
function normalised(name: string): string {
  return name.replace(/[-_.]+/g, '-').toLowerCase();
}
