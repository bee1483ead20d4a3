/**
 * An engine without a filesystem: transactions hold a set of paths, a manifest is their list as text. For unit tests of
 * what commits and recovers.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type {
  BuildOutcome,
  BuildRequest,
  EnginePort,
  EngineTransaction,
  MemberRefusal,
  PathChange,
  Resolution,
  TreeAttributes,
  TreeView,
} from '../../src/txn/engine-port.js';

interface FakeTransaction {
  directory: string;
  rootPid: number;
  base: number;
  paths: Map<string, string>;
  quietMs: number;
  state: EngineTransaction['state'];
}

export class FakeEngine implements EnginePort {
  readonly transactions = new Map<number, FakeTransaction>();
  /** What was called, in order: 'begin 1', 'freeze 1', … */
  readonly calls: string[] = [];
  readonly refusals = new Map<number, MemberRefusal | undefined>();
  readonly conflicts: string[] = [];
  /** Of the latest build. */
  resolutions: Resolution[] = [];
  /** Files by generation. */
  readonly generations = new Map<number, ReadonlyMap<string, string>>([[0, new Map()]]);
  /** Method name → what it throws. */
  readonly failures = new Map<string, Error>();

  readonly #journals = new Map<number, Map<string, string>>();

  constructor(public head = 0) {}

  beginTransaction({ id, directory, rootPid }: { id: number; directory: string; rootPid: number }): void {
    this.#called('begin', id);
    mkdirSync(join(directory, 'bodies'));
    writeFileSync(join(directory, 'journal'), '');
    this.transactions.set(id, { directory, rootPid, base: this.head, paths: new Map(), quietMs: 0, state: 'open' });
  }

  /** A member writes. */
  write(id: number, path: string, content = `written by ${id}`): void {
    const transaction = this.#get(id);
    transaction.paths.set(path, content);
    writeFileSync(join(transaction.directory, 'bodies', transaction.paths.size.toString(16)), path);
  }

  async freezeTransaction(id: number): Promise<void> {
    this.#called('freeze', id);
    await Promise.resolve();
    this.#get(id).state = 'frozen';
  }

  transactionInfo(id: number): EngineTransaction {
    const { base, rootPid, paths, quietMs, state } = this.#get(id);
    return { base, rootPid, members: [rootPid], mutations: paths.size, quietMs, state };
  }

  observe({ pid }: { pid: number }): void {
    this.#called('observe', pid);
  }

  changes(id: number): Promise<PathChange[]> {
    const changes = [...this.#get(id).paths.keys()].map((path): PathChange => ({
      path: Buffer.from(path),
      kind: 'added',
      type: 'file',
    }));
    return Promise.resolve(changes);
  }

  async buildManifest({
    transaction,
    generation,
    manifestPath,
    resolutions = [],
  }: BuildRequest): Promise<BuildOutcome> {
    this.#called('build', transaction);
    await Promise.resolve();
    this.resolutions = resolutions;
    const conflicts = this.conflicts
      .map((path) => ({ path: Buffer.from(path) }))
      .filter(({ path }) => !resolutions.some((resolution) => resolution.path.equals(path)));
    if (conflicts.length === 0) writeFileSync(manifestPath, `manifest ${generation}\n`);
    return { conflicts, entries: this.#get(transaction).paths.size, maxMtimeNs: 1_700_000_000_000_000_000n };
  }

  publish({ generation, transaction }: { generation: number; transaction: number | null }): void {
    this.#called('publish', generation);
    const paths = transaction === null ? [] : this.#get(transaction).paths;
    this.generations.set(generation, new Map([...(this.generations.get(this.head) ?? []), ...paths]));
    this.head = generation;
    if (transaction !== null) this.transactions.delete(transaction);
  }

  abortTransaction(id: number, refusal?: MemberRefusal): number[] {
    this.#called('abort', id);
    this.refusals.set(id, refusal);
    this.#journals.set(id, this.#get(id).paths);
    this.transactions.delete(id);
    return [];
  }

  releaseBarrier(id: number): void {
    this.#called('release-barrier', id);
  }

  restoreTransaction({ id, directory }: { id: number; directory: string }): void {
    this.#called('restore', id);
    this.transactions.set(id, {
      directory,
      rootPid: 0,
      base: this.head,
      paths: this.#journals.get(id) ?? new Map([['restored', '']]),
      quietMs: 0,
      state: 'frozen',
    });
  }

  stat(view: TreeView, path: Buffer): TreeAttributes {
    if ('generation' in view && path.length === 0) {
      this.#called('load', view.generation);
      return { ino: 1n, type: 'directory', mode: 0o755, uid: 0, gid: 0 };
    }
    const content = this.#content(view, path);
    if (content === null) throw Object.assign(new Error('no such file'), { code: 'ENOENT' });
    return { ino: BigInt(content.length), type: 'file', mode: 0o644, uid: 0, gid: 0 };
  }

  list(): [] {
    return [];
  }

  read(view: TreeView, path: Buffer): Promise<Buffer> {
    const content = this.#content(view, path);
    if (content !== null) return Promise.resolve(Buffer.from(content));
    return Promise.reject(Object.assign(new Error('no such file'), { code: 'ENOENT' }));
  }

  #content(view: TreeView, path: Buffer): string | null {
    if ('generation' in view) return this.generations.get(view.generation)?.get(path.toString()) ?? null;
    const { paths, base } = this.#get(view.transaction);
    return paths.get(path.toString()) ?? this.#content({ generation: base }, path);
  }

  #called(method: string, id: number): void {
    this.calls.push(`${method} ${id}`);
    const failure = this.failures.get(method);
    if (failure) throw failure;
  }

  #get(id: number): FakeTransaction {
    const transaction = this.transactions.get(id);
    if (!transaction) throw new Error(`the engine knows no transaction ${id}`);
    return transaction;
  }
}
