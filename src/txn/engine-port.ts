/**
 * What transactions need of the filesystem engine. The daemon passes its backend's engine, which fits this by shape;
 * unit tests pass a fake. (Transactions know nothing of FUSE.)
 */
export type TreeView = { generation: number } | { transaction: number };

export type EntryType = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'character' | 'block';

export interface PathChange {
  path: Buffer;
  kind: 'added' | 'removed' | 'modified' | 'attributes';
  type: EntryType;
}

export interface BuildRequest {
  transaction: number;
  generation: number;
  layer: number;
  manifestPath: string;
}

export interface BuildOutcome {
  conflicts: { path: Buffer }[];
  entries: number;
  maxMtimeNs: bigint;
}

export interface EngineTransaction {
  base: number;
  rootPid: number;
  members: number[];
  mutations: number;
  quietMs: number;
  /** `ended`: its root is gone. */
  state: 'open' | 'ended' | 'frozen' | 'closed';
}

export interface EnginePort {
  beginTransaction(options: { id: number; directory: string; rootPid: number; token: string | null }): void;
  freezeTransaction(id: number): Promise<void>;
  transactionInfo(id: number): EngineTransaction;
  changes(id: number): Promise<PathChange[]>;
  buildManifest(options: BuildRequest): Promise<BuildOutcome>;
  publish(options: { generation: number; transaction: number | null }): void;
  abortTransaction(id: number): void;
  releaseBarrier(id: number): void;
  restoreTransaction(options: { id: number; directory: string }): void;
  list(view: TreeView, path: Buffer): { name: Buffer; type: EntryType }[];
  read(view: TreeView, path: Buffer): Promise<Buffer>;
}
