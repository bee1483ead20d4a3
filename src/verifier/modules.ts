/**
 * Which modules a set of changes touches: what the import test imports. Pure, over names; a module that can't be imported
 * any more because nothing of it is left is not among them.
 */
import { joinPath, type TreeReader } from '../python/distributions.js';
import type { ChangedPath } from '../python/checks/check.js';

/** Below namespace packages: `google.cloud.storage` has two above it. */
const DEEPEST = 3;
const IDENTIFIER = /^[\p{L}_][\p{L}\p{N}_]*$/u;
/** `demo.py`, `demo.so`, `demo.abi3.so`, `demo.cpython-311-x86_64-linux-gnu.so`; a shared library `libdemo.so` is none. */
const MODULE_FILE = /^(?!lib\w*\.so$)([^.]+)\.(?:py|pyc|(?:(?:abi3|(?:cpython|pypy|graalpy)\d*-[\w-]+)\.)?so)$/;
const SITE_PACKAGES = /^(?:site|dist)-packages$/;

/** Sorted, each once. `changes` and `after` are of one tree: a site-packages directory, or an environment with some in it. */
export function touchedModules(changes: readonly ChangedPath[], after: TreeReader): string[] {
  const names = new Names(after);
  const modules = new Set<string>();
  const roots = moduleRoots(names);
  for (const { path, kind } of changes) {
    const root = roots.find((each) => each === '' || path.startsWith(`${each}/`));
    if (root === undefined) continue;
    // The times and modes of a directory say nothing about what is in it.
    if (kind === 'attributes' && names.of(path) !== null) continue;
    const module = moduleOf(names, root, root === '' ? path : path.slice(root.length + 1));
    if (module !== null) modules.add(module);
  }
  return [...modules].sort();
}

/** Where modules are looked for: the site-packages directories of an environment, else the tree itself. */
function moduleRoots(names: Names): string[] {
  const found: string[] = [];
  for (const library of ['lib', 'lib64', 'local/lib']) {
    for (const version of names.of(library) ?? []) {
      if (!/^(?:python|pypy)\d/.test(version)) continue;
      const directory = joinPath(library, version);
      for (const name of names.of(directory) ?? []) if (SITE_PACKAGES.test(name)) found.push(joinPath(directory, name));
    }
  }
  return found.length > 0 ? found : [''];
}

function moduleOf(names: Names, root: string, path: string): string | null {
  const parts = path.split('/');
  if (parts.length === 1) return fileModule(names, root, parts[0]!);
  const module: string[] = [];
  let directory = root;
  // The last part is a file, or a directory whose contents are changes of their own.
  for (const part of parts.slice(0, Math.min(DEEPEST, parts.length - 1))) {
    const name = identifier(part);
    // What is private in a namespace is imported by what is not; alone it may lack what others bring.
    if (name === null || (module.length > 0 && name.startsWith('_'))) return null;
    module.push(name);
    directory = joinPath(directory, part);
    if (names.isPackage(directory)) return module.join('.');
  }
  return null;
}

/** A file that is a module by itself: when its last form was removed, it is none any more. */
function fileModule(names: Names, root: string, file: string): string | null {
  const name = moduleName(file);
  if (name === null || name === '__init__' || name === '__main__') return null;
  const left = [...(names.of(root) ?? [])].some((entry) => moduleName(entry) === name);
  return left ? name : null;
}

function moduleName(file: string): string | null {
  const name = MODULE_FILE.exec(file)?.[1];
  return name === undefined ? null : identifier(name);
}

/** Paths are bytes, one character each; identifiers are UTF-8. */
function identifier(name: string): string | null {
  const text = Buffer.from(name, 'latin1').toString('utf8');
  return IDENTIFIER.test(text) && text !== '__pycache__' ? text : null;
}

/** Listings of the tree, each read once. */
class Names {
  readonly #tree: TreeReader;
  readonly #known = new Map<string, ReadonlySet<string> | null>();
  readonly #packages = new Map<string, boolean>();

  constructor(tree: TreeReader) {
    this.#tree = tree;
  }

  /** Null when there is no such directory. */
  of(directory: string): ReadonlySet<string> | null {
    let names = this.#known.get(directory);
    if (names === undefined) {
      const entries = this.#tree.list(directory);
      names = entries && new Set(entries.map(({ name }) => name));
      this.#known.set(directory, names);
    }
    return names;
  }

  isPackage(directory: string): boolean {
    let known = this.#packages.get(directory);
    if (known === undefined) {
      known = [...(this.of(directory) ?? [])].some((entry) => moduleName(entry) === '__init__');
      this.#packages.set(directory, known);
    }
    return known;
  }
}
