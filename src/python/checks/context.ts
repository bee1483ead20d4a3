/** What the checks of one transaction share: each fact is worked out once, when the first check asks. */
import { parseMetadataName, type MetadataKind } from '../dist-info.js';
import { joinPath, parentOf } from '../distributions.js';
import { readClaims, type Claims } from './claims.js';
import { readFacts, siteDirectories, type DistributionFacts } from './facts.js';
import type { ChangedPath, CheckInput } from './input.js';
import { touchedMetadata } from './touched.js';
import { TreeIndex } from './tree-index.js';
import { mapSome } from './map-some.js';

export interface TouchedMetadata {
  path: string;
  /** That it lies in. */
  directory: string;
  kind: MetadataKind;
  isDirectory: boolean;
  /** Something in it was added or changed, not only removed. */
  written: boolean;
}

/** How far what RECORD says can be held against the files. */
export type Trust =
  /** An installer wrote it, and its own name beside it. */
  | 'installer'
  /** Nobody says who: Debian's packages keep the wheel's RECORD and strip or patch files; or a wheel was unpacked by hand. */
  | 'nobody'
  /** The system's, which moves and edits files after RECORD was made (conda: prefixes), or leaves it out. */
  | 'system';

const SYSTEM_INSTALLERS: ReadonlySet<string> = new Set(['conda', 'mamba', 'micromamba', 'debian', 'dpkg', 'rpm']);

export class CheckContext {
  readonly before: TreeIndex;
  readonly after: TreeIndex;
  /** What changed, attributes left out. */
  readonly kinds: ReadonlyMap<string, ChangedPath['kind']>;
  /** Paths of metadata that was touched, where Python looks for it: not what a package brings along inside. */
  readonly touched: readonly string[];
  /** What is still there of it. */
  readonly metadata: readonly TouchedMetadata[];
  /** Where metadata was touched, or removed. */
  readonly directories: readonly string[];
  readonly #claims = new Map<string, Promise<readonly Claims[]>>();
  readonly #claimsBefore = new Map<string, Promise<Claims>>();
  #changedTrees: ReadonlySet<string> | null = null;
  #factsAfter: Promise<DistributionFacts[]> | null = null;
  #factsBefore: Promise<DistributionFacts[]> | null = null;

  constructor(readonly input: CheckInput) {
    this.before = new TreeIndex(input.before);
    this.after = new TreeIndex(input.after);
    const changes = input.changes.filter(({ kind }) => kind !== 'attributes');
    this.kinds = new Map(changes.map(({ path, kind }) => [path, kind]));
    this.touched = touchedMetadata(changes).filter((path) => !this.#isBroughtAlong(parentOf(path)));
    this.directories = [...new Set(this.touched.map(parentOf))];
    const written = new Set(touchedMetadata(changes.filter(({ kind }) => kind !== 'removed')));
    this.metadata = this.touched
      .filter((path) => this.after.has(path))
      .map((path) => ({
        path,
        directory: parentOf(path),
        kind: kindOf(path),
        isDirectory: this.after.entries(path) !== null,
        written: written.has(path),
      }));
  }

  /** Distributions as the checks of dependencies see them, in all directories of the tree. */
  factsAfter(): Promise<DistributionFacts[]> {
    this.#factsAfter ??= readFacts(this.after, this.#allDirectories(this.after));
    return this.#factsAfter;
  }

  factsBefore(): Promise<DistributionFacts[]> {
    this.#factsBefore ??= this.#readFactsBefore();
    return this.#factsBefore;
  }

  /** Of all distributions in a directory. */
  claimsIn(directory: string): Promise<readonly Claims[]> {
    let claims = this.#claims.get(directory);
    if (!claims) {
      const entries = [...(this.after.entries(directory)?.keys() ?? [])].filter((name) => parseMetadataName(name));
      const paths = entries.map((name) => joinPath(directory, name)).sort();
      claims = mapSome(paths, (path) => readClaims(this.after, path, kindOf(path)));
      this.#claims.set(directory, claims);
    }
    return claims;
  }

  async claimsOf({ path, directory }: TouchedMetadata): Promise<Claims> {
    const claims = (await this.claimsIn(directory)).find((each) => each.path === path);
    return claims ?? readClaims(this.after, path, kindOf(path));
  }

  /** Of the metadata at the same path before; without files when there was none. */
  claimsBefore(path: string): Promise<Claims> {
    let claims = this.#claimsBefore.get(path);
    if (!claims) this.#claimsBefore.set(path, (claims = readClaims(this.before, path, kindOf(path))));
    return claims;
  }

  /** Paths that are the transaction's: their files, or what is said about them, are not as before. */
  async newClaims(claims: Claims): Promise<string[]> {
    const was = await this.claimsBefore(claims.path);
    return [...claims.files.keys()].filter((path) => {
      if (this.kinds.has(path)) return true;
      const [row, old] = [claims.files.get(path), was.files.get(path)];
      const sameHash = row?.hash === old?.hash || (row?.hash && old?.hash?.digest.equals(row.hash.digest));
      return !old || !sameHash || old.sizeBytes !== row?.sizeBytes;
    });
  }

  async trustIn(path: string): Promise<Trust> {
    const installer = await this.after.read(joinPath(path, 'INSTALLER'));
    if (installer === null) return 'nobody';
    return SYSTEM_INSTALLERS.has(installer.toString('latin1').trim().toLowerCase()) ? 'system' : 'installer';
  }

  async #readFactsBefore(): Promise<DistributionFacts[]> {
    const same = (await this.factsAfter()).filter(({ path }) => !this.#isTouched(path));
    const known = new Map(same.map((facts) => [facts.path, facts]));
    return readFacts(this.before, this.#allDirectories(this.before), known);
  }

  #allDirectories(tree: TreeIndex): string[] {
    const standard = siteDirectories(tree);
    // A directory that was installed into without being one of them is an environment of its own (`--target`).
    return [...new Set([...standard, ...this.directories])].filter((path) => !this.#isBroughtAlong(path));
  }

  #isTouched(path: string): boolean {
    this.#changedTrees ??= new Set([...this.kinds.keys()].flatMap(selfAndParents));
    return this.#changedTrees.has(path);
  }

  /** A package's own copies of others (`setuptools/_vendor`): below a directory that has distributions. */
  #isBroughtAlong(directory: string): boolean {
    for (let path = directory; path !== '';) {
      path = parentOf(path);
      for (const tree of [this.after, this.before]) {
        for (const name of tree.entries(path)?.keys() ?? []) if (parseMetadataName(name)) return true;
      }
    }
    return false;
  }
}

function selfAndParents(path: string): string[] {
  return path === '' ? [] : [path, ...selfAndParents(parentOf(path))];
}

function kindOf(path: string): MetadataKind {
  const kind = parseMetadataName(path.slice(path.lastIndexOf('/') + 1))?.kind;
  if (!kind) throw new Error(`invariant broken: ${path} is no metadata`);
  return kind;
}
