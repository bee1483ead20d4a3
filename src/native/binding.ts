/**
 * The whole line between TypeScript and the C++ addon, as types.
 *
 * Plain data both ways. Names and paths are bytes (`Buffer`): a Linux file name need not be UTF-8. Paths are
 * relative to the mount's root, without a leading slash; the root itself is the empty path.
 * Inode numbers and times are `bigint`s (64 bit); times are nanoseconds since 1970.
 * A failing call throws, or rejects with, an `Error` with `code` ('ENOENT', …), `errno` (positive) and `syscall`.
 */

/** What can be switched off for tests with `SITESWAP_DISABLE`, and is reported as in use after INIT. */
export type Feature = 'epoch' | 'no-open' | 'resend' | 'pidfd-info' | 'exit-events' | 'readdirplus';
export const FEATURES: readonly Feature[] = ['epoch', 'no-open', 'resend', 'pidfd-info', 'exit-events', 'readdirplus'];

/** Which tree a path call reads. */
export type View = { generation: number } | { transaction: number };

export type FileType = 'file' | 'directory' | 'symlink' | 'fifo' | 'socket' | 'character' | 'block';

export interface Attributes {
  ino: bigint;
  type: FileType;
  /** Permission bits with setuid, setgid and sticky; no type bits. */
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  rdev: number;
  sizeBytes: bigint;
  mtimeNs: bigint;
  /** Symlinks only. */
  target?: Buffer;
}

export interface DirectoryEntry {
  name: Buffer;
  type: FileType;
  ino: bigint;
}

export interface Change {
  path: Buffer;
  /** `modified`: other bytes, target or type; `attributes`: only mode, owner, times or xattrs. */
  kind: 'added' | 'removed' | 'modified' | 'attributes';
  type: FileType;
}

/** HEAD and the transaction's base differ at this path, and the transaction changed it too. */
export interface Conflict {
  path: Buffer;
}

export interface ScanOptions {
  /** Descriptor of the lower directory, opened before the mount. */
  lowerFd: number;
  /** Where the manifest of generation 0 is written (not synced: `store/atomic-fs` does that and the rename). */
  manifestPath: string;
  /** First inode number that may be given out, and how many there are. */
  firstIno: bigint;
  inoCount: bigint;
}

export interface ScanProgress {
  entries: number;
}

export interface ScanResult {
  entries: number;
  sizeBytes: bigint;
  nextIno: bigint;
  maxMtimeNs: bigint;
}

export interface LowerChange {
  path: Buffer;
  what: 'added' | 'removed' | 'modified';
}

export interface LowerCheckOptions {
  lowerFd: number;
  /** Of generation 0. */
  manifestPath: string;
  /** So many changes are enough. */
  limit: number;
  /** Only directories, and what lies in those that differ: all that is missed is a file that was changed in place. */
  directoriesOnly: boolean;
  /** On one thread that gives way to everything else. */
  inBackground: boolean;
}

export interface LowerCheck {
  /** By path. Rejects with 'EBADMSG' when the manifest is damaged, with 'ECANCELED' when it was stopped. */
  changes: Promise<LowerChange[]>;
  /** Soon. */
  stop(): void;
}

export interface EngineOptions {
  /** The /dev/fuse descriptor of the mount. */
  deviceFd: number;
  lowerFd: number;
  /** Absolute paths in the store. Layer n is `${layersDir}/${n}`, manifest n `${manifestsDir}/${n}.manifest`. */
  layersDir: string;
  manifestsDir: string;
  /** Of the live layer; made when missing. What no generation of today needs is dropped from it. */
  liveDir: string;
  /** HEAD at start. */
  generation: number;
  firstIno: bigint;
  inoCount: bigint;
  /** No directory time given out by a commit may be at or below this. */
  maxMtimeNs: bigint;
  disable: readonly Feature[];
  pin: 'process' | 'none' | { leaseSeconds: number };
}

export interface SessionInfo {
  /** Of the kernel's FUSE protocol 7.x. */
  minor: number;
  features: Feature[];
}

export interface BeginOptions {
  id: number;
  /** Absolute path; exists, empty. The engine makes `journal` and `bodies/` in it. */
  directory: string;
  /** Its death ends the transaction; its descendants are members. Must be alive. */
  rootPid: number;
  /** Members are also processes with `SITESWAP_TRANSACTION=<token>` in their environment. Null: by descent only. */
  token: string | null;
}

export interface TransactionInfo {
  id: number;
  base: number;
  rootPid: number;
  members: number[];
  /** Entries created, changed or removed so far. */
  mutations: number;
  /** Milliseconds since a member last changed something. */
  quietMs: number;
  /** `open`: takes writes; `ended`: its root is gone, new readers wait; `frozen`; `closed`. */
  state: 'open' | 'ended' | 'frozen' | 'closed';
}

/** For the members of a transaction that is dropped, and for what they start. */
export interface Refusal {
  /** Its root process may go on: a shell. */
  exceptRoot: boolean;
  /** Until a member has tried nothing for so many milliseconds. Null: until it ends. */
  quietMs: number | null;
}

export interface BuildOptions {
  transaction: number;
  /** The number of the generation to be made. */
  generation: number;
  /** The layer that the transaction's bodies will be. */
  layer: number;
  /** Where the manifest is written (not synced, not renamed). */
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

export interface BuildResult {
  /** Not empty: nothing was written. */
  conflicts: Conflict[];
  /** Entries of the new manifest; what it imports from others does not count. */
  entries: number;
  /** Bodies that the new manifest refers to in the new layer. */
  bodies: number;
  nextIno: bigint;
  maxMtimeNs: bigint;
}

export interface PublishOptions {
  generation: number;
  /** The transaction that this commit closes; null when a generation is published without one. */
  transaction: number | null;
}

export interface Pin {
  pid: number;
  generation: number;
  /** Milliseconds since 1970. */
  sinceMs: number;
  /**
   * `listed`: it listed the root then; `inherited`: from the process that it was forked from; `moved`: its own descendant
   * committed.
   */
  reason: 'listed' | 'inherited' | 'moved';
}

export interface Counters {
  /** FUSE requests by opcode name, since start. */
  requests: Record<string, number>;
  /** Requests of committed views that had to wait for JavaScript. */
  committedViewEvents: number;
  parked: number;
}

export type EngineEvent =
  | {
      type: 'writer-appeared';
      /** Give it back to `decide`. The request waits until then. */
      request: number;
      /** Process (not thread) id, 0 when it can't be seen from here. */
      pid: number;
      uid: number;
      gid: number;
      /** Opcode name, lower case: 'create', 'mkdir', 'setattr', 'unlink', … */
      op: string;
      path: Buffer;
    }
  | {
      type: 'root-exited';
      transaction: number;
      /** wait(2) format decoded; both null when the kernel could not tell. */
      exitCode: number | null;
      signal: number | null;
    }
  | { type: 'session-stopped'; reason: string }
  | { type: 'log'; text: string };

export interface Engine {
  /** Resolves when INIT is done and requests are being served. */
  start(): Promise<SessionInfo>;
  /**
   * `retry`: the request is run again (the caller is a member by now). `live`: it goes to the live layer, when it is
   * about bytecode (else EROFS). `errno`: positive, answered to the caller.
   */
  decide(request: number, verdict: { retry: true } | { live: true } | { errno: number }): void;
  beginTransaction(options: BeginOptions): void;
  /** No more changes by members (EROFS); resolves when none is in progress. */
  freezeTransaction(id: number): Promise<void>;
  transactionInfo(id: number): TransactionInfo;
  changes(id: number): Promise<Change[]>;
  /** Three-way: HEAD + (transaction − its base). The transaction must be frozen. Run off the main thread. */
  buildManifest(options: BuildOptions): Promise<BuildResult>;
  /** The swap. The manifest and the layer must be in their final place and durable. Waiting readers go on. */
  publish(options: PublishOptions): void;
  /**
   * Drops a transaction; nothing of it stays visible. Waiting readers go on at HEAD. Its files may be deleted then.
   * Without `refusal` its members go on with work of their own; with it they may change nothing any more (EROFS), and
   * those who live are given.
   */
  abortTransaction(id: number, refusal?: Refusal): number[];
  /**
   * Lets readers that wait for this transaction go on at HEAD, and nobody waits for it any more. When it is frozen
   * (refused, staged), nobody is a member of it any more either.
   */
  releaseBarrier(id: number): void;
  /** Brings a transaction back from its journal, frozen, with no members (a refused one, after a restart). */
  restoreTransaction(options: { id: number; directory: string }): void;

  /**
   * From now on this process and its descendants see this view, read-only (EROFS), and wait at no barrier, until it ends
   * or the transaction is gone. Throws ESRCH, or ENOENT when there is no such view.
   */
  observe(options: { view: View; pid: number }): void;

  /**
   * Serves a second mount of the same tree, on the descriptor of a FUSE device that was mounted by whoever will look at it.
   * For observers: the kernel's locks of the first mount may be held by requests that wait for what they look at. Resolves
   * when that mount is gone and nothing uses the descriptor any more.
   */
  serveViewer(deviceFd: number): Promise<void>;

  stat(view: View, path: Buffer): Attributes;
  list(view: View, path: Buffer): DirectoryEntry[];
  read(view: View, path: Buffer): Promise<Buffer>;

  /** Processes on a generation other than HEAD, or on HEAD. */
  pins(): Pin[];
  counters(): Counters;
  /** Stops the threads. The kernel's connection stays up as long as anybody holds the descriptor. */
  stop(): Promise<void>;
}

export interface NativeBinding {
  /** Opens /dev/fuse and mounts (as root by mount(2), else by fusermount3). Returns the descriptor (close-on-exec). */
  mountFuse(target: string, options: { source: string; allowOther: boolean }): number;
  /** EBUSY when in use, unless lazy (MNT_DETACH). */
  unmountFuse(target: string, options: { lazy: boolean }): void;
  /** flock(LOCK_EX | LOCK_NB): false when somebody else holds it. Held until the descriptor is closed. */
  tryLock(fd: number): boolean;
  /** SO_PEERCRED of a connected unix socket. */
  peerCredentials(fd: number): { pid: number; uid: number; gid: number };
  /** Gives a descriptor to whoever reads at the other end of a unix socket. */
  sendDescriptor(socketFd: number, fd: number): void;
  /** The one that was sent (close-on-exec). Blocks until it is there. */
  receiveDescriptor(socketFd: number): number;
  /** syncfs(2) of the filesystem that the descriptor is on. */
  syncFilesystem(fd: number): Promise<void>;
  /** Whether the kernel has PIDFD_GET_INFO with exit status. */
  hasPidfdInfo(): boolean;
  /** Whether this process may listen to the kernel's process connector, which tells exit status too. */
  hasExitEvents(): boolean;
  scanLower(options: ScanOptions, onProgress: (progress: ScanProgress) => void): Promise<ScanResult>;
  /** Compares the lower with the manifest that was made of it. */
  checkLower(options: LowerCheckOptions): LowerCheck;
  /** Opens and checks a manifest file; throws code 'EBADMSG' with what is wrong. */
  checkManifest(manifestPath: string): { generation: number; entries: number };
  createEngine(options: EngineOptions, onEvent: (event: EngineEvent) => void): Engine;
}
