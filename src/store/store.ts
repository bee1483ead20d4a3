/**
 * A store that is open: what daemon and transactions do with it, in words of their own.
 *
 * The keeper opens it with the lock; the server attaches to it, inheriting the lock's descriptor. Only the server
 * writes while a mount is up, and one commit at a time.
 */
import { lstat, mkdir, readdir } from 'node:fs/promises';
import { closeSync } from 'node:fs';
import { dirname } from 'node:path';
import { asStoreError, SiteswapError, systemCode } from '../util/errors.js';
import { makeDirectoryDurable, moveDurable, remove, syncAndMove, syncDirectory, writeFileAtomic } from './atomic-fs.js';
import { crashPoint } from './crash-point.js';
import { readFormat, writeFormat, type Lower } from './format.js';
import { readGeneration, readHistory, writeGeneration, type Generation } from './generation.js';
import { readHead, writeHead } from './head.js';
import { StoreLayout, TEMPORARY_PREFIX } from './layout.js';
import { acquireLock, type TryLock } from './lock.js';
import { damaged, readText } from './read.js';
import { recover, type Recovery } from './recover.js';
import { nextStart, takeStart, type Start } from './starts.js';
import {
  listTransactions,
  readTransactionInfo,
  writeTransactionInfo,
  type TransactionInfoFile,
} from './transaction-info.js';

export class Store {
  private constructor(
    readonly layout: StoreLayout,
    /** Descriptor of `lock`; null in a process that did not take it. */
    readonly lockFd: number | null,
    readonly lower: Lower,
    private currentHead: number | null,
  ) {}

  /** Opens or creates, and locks. `lower` describes the directory that is about to be mounted over. */
  static async open(root: string, lower: Lower, tryLock: TryLock): Promise<Store> {
    const layout = new StoreLayout(root);
    await ensureRoot(layout);
    const found = await readFormat(layout);
    if (found === null) await refuseForeign(layout);
    const lockFd = acquireLock(layout, tryLock);
    try {
      if (found === null) await writeFormat(layout, lower);
      else refuseOtherLower(layout, found, lower);
      for (const directory of layout.directories) await makeDirectoryDurable(directory);
      return new Store(layout, lockFd, found ?? lower, await readHead(layout));
    } catch (error) {
      closeSync(lockFd);
      throw asStoreError(error, `the store ${root} can't be opened`);
    }
  }

  /** For the server, and for commands that only read: no lock is taken, nothing is created. */
  static async attach(root: string): Promise<Store> {
    const layout = new StoreLayout(root);
    const lower = await readFormat(layout);
    if (lower === null) throw new SiteswapError('NOT_MOUNTED', `${root} is no siteswap store`, 'Mount first.');
    return new Store(layout, null, lower, await readHead(layout));
  }

  close(): void {
    if (this.lockFd !== null) closeSync(this.lockFd);
  }

  /** Null before the first scan. */
  get scannedHead(): number | null {
    return this.currentHead;
  }

  get head(): number {
    if (this.currentHead === null) throw new Error('invariant broken: the store was not scanned');
    return this.currentHead;
  }

  /** Whether nobody would miss it: no commit, and nothing that waits for one. Looks at the disk, where others write. */
  async isUnused(): Promise<boolean> {
    const head = await readHead(this.layout);
    return (head === null || head === 0) && (await this.keptTransactions()).length === 0;
  }

  /** Another store may have been put in the place of this one: what belongs to no history there must not become its HEAD. */
  async refuseReplaced(): Promise<void> {
    const onDisk = await readHead(this.layout);
    if (onDisk === this.currentHead) return;
    throw new SiteswapError(
      'STORE_DAMAGED',
      `the store ${this.layout.root} was replaced while it was in use: HEAD is ${onDisk}, not ${this.currentHead}`,
      'Put the right one back; or unmount with --force and mount again, to go on with the one that is there.',
    );
  }

  recover(): Promise<Recovery> {
    return recover(this.layout, this.head);
  }

  /** Of a store that was mounted before: what would be found too late, when it is mounted already. */
  async checkStarts(): Promise<void> {
    if ((await nextStart(this.layout)) === 1) throw damaged(this.layout.starts, 'it is missing');
  }

  takeStart(): Promise<Start> {
    return takeStart(this.layout);
  }

  generation(number: number): Promise<Generation> {
    return readGeneration(this.layout, number);
  }

  history(limit?: number): Promise<Generation[]> {
    return readHistory(this.layout, this.head, limit);
  }

  /** Generation 0, from a manifest at `layout.temporaryManifest(0)`. Only while there are no commits. */
  async writeBase(entries: number, maxMtimeNs: bigint, nowMs: number): Promise<void> {
    if (this.currentHead !== null && this.currentHead !== 0) throw new Error('invariant broken: there are commits');
    await this.writeGeneration({
      generation: 0,
      parent: null,
      createdMs: nowMs,
      reason: 'base',
      transaction: null,
      command: [],
      uid: null,
      layer: null,
      maxMtimeNs: String(maxMtimeNs),
      entries,
      packages: [],
      warnings: [],
    });
    await this.moveHead(0);
  }

  /** `what` is for people; that it is there is what counts. */
  async noteLowerChange(what: string): Promise<void> {
    await writeFileAtomic(this.layout.lowerChanged, `${what}\n`);
  }

  async isLowerChangeNoted(): Promise<boolean> {
    return (await readText(this.layout.lowerChanged)) !== null;
  }

  /** When the lower was compared in full and does not differ, or was read again. */
  async forgetLowerChange(): Promise<void> {
    if (!(await this.isLowerChangeNoted())) return;
    await remove(this.layout.lowerChanged);
    await syncDirectory(this.layout.root);
  }

  /** The manifest is at `layout.temporaryManifest(generation)`, complete but not synced. */
  async writeGeneration(generation: Generation): Promise<void> {
    const number = generation.generation;
    await syncAndMove(this.layout.temporaryManifest(number), this.layout.manifest(number));
    crashPoint('write-generation:manifest');
    await writeGeneration(this.layout, generation);
  }

  async moveHead(generation: number): Promise<void> {
    // Never a HEAD whose description can't be read back.
    await readGeneration(this.layout, generation);
    try {
      await writeHead(this.layout, generation);
    } catch (error) {
      // Renamed, but its directory could not be synced: what the disk says counts, there is no way back.
      if ((await readHead(this.layout)) !== generation) throw error;
    }
    this.currentHead = generation;
  }

  /** Takes back writeGeneration, as long as HEAD does not name it. */
  async dropGeneration(number: number): Promise<void> {
    const onDisk = await readHead(this.layout);
    if (onDisk !== null && number <= onDisk) throw new Error(`invariant broken: generation ${number} is committed`);
    await remove(this.layout.generation(number));
    await remove(this.layout.manifest(number));
    await remove(this.layout.temporaryManifest(number));
  }

  /** Makes the directory of a new transaction, empty but for info.json; returns its path. */
  async createTransaction(info: TransactionInfoFile): Promise<string> {
    const directory = this.layout.transaction(info.id);
    await mkdir(directory, { mode: 0o700 });
    try {
      await writeTransactionInfo(this.layout, info);
    } catch (error) {
      // A full disk has room for directories, and every try of an installer would leave one.
      await remove(directory);
      throw error;
    }
    return directory;
  }

  updateTransaction(info: TransactionInfoFile): Promise<void> {
    return writeTransactionInfo(this.layout, info);
  }

  /** Those that a restart brings back. */
  async keptTransactions(): Promise<TransactionInfoFile[]> {
    const infos = await Promise.all(
      (await listTransactions(this.layout)).map((id) => readTransactionInfo(this.layout, id)),
    );
    return infos.filter((info) => info !== null && info.state !== 'open') as TransactionInfoFile[];
  }

  removeTransaction(id: number): Promise<void> {
    return remove(this.layout.transaction(id));
  }

  /** The bodies of a transaction become a layer. `sync` makes the data durable before the name is. */
  async bodiesToLayer(id: number, sync: () => Promise<void>): Promise<void> {
    await sync();
    crashPoint('sync-layer:synced');
    await moveDurable(this.layout.transactionBodies(id), this.layout.layer(id));
  }

  /** Takes back bodiesToLayer. Nothing when it was not done. */
  async layerToBodies(id: number): Promise<void> {
    try {
      await moveDurable(this.layout.layer(id), this.layout.transactionBodies(id));
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
    }
  }
}

async function ensureRoot(layout: StoreLayout): Promise<void> {
  try {
    await makeDirectoryDurable(layout.root);
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EEXIST') {
      throw new SiteswapError('STORE_DAMAGED', `${layout.root} is not a directory`, 'Use another store with --store.');
    }
    if (code === 'ENOENT') {
      throw new SiteswapError(
        'NO_DIRECTORY',
        `${dirname(layout.root)} does not exist`,
        'Make it, or use another --store.',
      );
    }
    if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
      throw new SiteswapError(
        'NO_RIGHTS',
        `the store ${layout.root} can't be made: ${code}`,
        'Run as a user who may write there, or use another store with --store.',
      );
    }
    throw asStoreError(error, `the store ${layout.root} can't be made`);
  }
  const { uid, mode } = await lstat(layout.root);
  if (process.geteuid?.() !== uid && process.geteuid?.() !== 0) {
    throw new SiteswapError(
      'NO_RIGHTS',
      `the store ${layout.root} belongs to another user`,
      'Use another store with --store.',
    );
  }
  if ((mode & 0o077) !== 0) {
    // Bodies of files that their own modes protect lie in it under other names.
    throw new SiteswapError(
      'NO_RIGHTS',
      `the store ${layout.root} is open to other users`,
      `chmod 0700 ${layout.root}, or use another store with --store.`,
    );
  }
}

/** A directory without `format` is new, or was cut short right after mkdir: then it holds next to nothing. */
async function refuseForeign(layout: StoreLayout): Promise<void> {
  const foreign = (await readdir(layout.root)).filter(
    (name) => name !== 'lock' && !name.startsWith(TEMPORARY_PREFIX) && name !== 'server.log',
  );
  if (foreign.length === 0) return;
  throw new SiteswapError(
    'STORE_DAMAGED',
    `${layout.root} is no siteswap store: it has no file 'format', but ${foreign[0]}`,
    'Use another store with --store.',
  );
}

function refuseOtherLower(layout: StoreLayout, found: Lower, lower: Lower): void {
  if (found.ino === lower.ino) return;
  throw new SiteswapError(
    'LOWER_CHANGED',
    `the store ${layout.root} belongs to another directory: ${found.path} (inode ${found.ino})`,
    found.path === lower.path
      ? 'The directory was made anew: drop the store with `siteswap unmount --purge DIR`, or use another with --store.'
      : 'Use another store with --store.',
  );
}
