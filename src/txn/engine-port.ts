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
  resolutions?: Resolution[];
}

/**
 * What the new generation has at a path, after a conflict there; `nothing` also where there was none. A Buffer: a file
 * with these bytes. `merge`: directories, one of which may be new or gone, name by name; additions of one side to a
 * directory that the other replaced or removed are reported as conflicts of their own then.
 */
export interface Resolution {
  path: Buffer;
  take: 'head' | 'transaction' | 'nothing' | 'merge' | Buffer;
}

export interface TreeAttributes {
  ino: bigint;
  type: EntryType;
  mode: number;
  uid: number;
  gid: number;
  target?: Buffer;
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

/** From now on these members of a dropped transaction may change nothing. */
export interface MemberRefusal {
  exceptRoot: boolean;
  /** Until one has tried nothing for so long. Null: until it ends. */
  quietMs: number | null;
}

export interface EnginePort {
  beginTransaction(options: { id: number; directory: string; rootPid: number; token: string | null }): void;
  freezeTransaction(id: number): Promise<void>;
  transactionInfo(id: number): EngineTransaction;
  changes(id: number): Promise<PathChange[]>;
  buildManifest(options: BuildRequest): Promise<BuildOutcome>;
  publish(options: { generation: number; transaction: number | null }): void;
  abortTransaction(id: number, refusal?: MemberRefusal): number[];
  releaseBarrier(id: number): void;
  /** This process and its descendants see this view from now on, read-only. */
  observe(options: { view: TreeView; pid: number }): void;
  restoreTransaction(options: { id: number; directory: string }): void;
  stat(view: TreeView, path: Buffer): TreeAttributes;
  list(view: TreeView, path: Buffer): { name: Buffer; type: EntryType }[];
  read(view: TreeView, path: Buffer): Promise<Buffer>;
}
