/**
 * Whether the original directory was changed behind the mount's back. A tree that is not large is compared in full before it
 * is mounted. Of a large one only the directories are: every name that came, went or was replaced shows in their times. Its
 * files are compared by the server while it serves, and what that finds is noted in the store: the next mount compares all
 * of it first.
 */
import type { Backend, LowerChange } from '../fuse/backend.js';
import { damagedManifest } from '../store/read.js';
import type { Store } from '../store/store.js';
import { describe, systemCode } from '../util/errors.js';
import { ENTRIES_COMPARED_FIRST, LOWER_CHANGES_SHOWN } from '../util/limits.js';

/** Before the mount; the keeper's half. */
export async function compareFirst(
  store: Store,
  lowerFd: number,
  backend: Backend,
): Promise<{ changes: LowerChange[]; filesUnchecked: boolean }> {
  const manifestPath = store.layout.manifest(0);
  const { entries } = await store.generation(0);
  const directoriesOnly = entries > ENTRIES_COMPARED_FIRST && !(await store.isLowerChangeNoted());
  const options = { lowerFd, manifestPath, limit: LOWER_CHANGES_SHOWN, directoriesOnly, inBackground: false };
  try {
    return { changes: await backend.checkLower(options).changes, filesUnchecked: directoriesOnly };
  } catch (error) {
    if (systemCode(error) !== 'EBADMSG') throw error;
    throw damagedManifest(manifestPath, error);
  }
}

/** 'a.py modified, pkg/b.py removed, …' */
export function namedChanges(changes: readonly LowerChange[]): string {
  const names = changes.map(({ path, what }) => `${path.toString('utf8') || '.'} ${what}`);
  return names.join(', ') + (changes.length === LOWER_CHANGES_SHOWN ? ', …' : '');
}

export function changedBehind(changes: readonly LowerChange[]): string {
  return `the original directory was changed behind the mount: ${namedChanges(changes)}`;
}

export interface BackgroundCheckOptions {
  store: Store;
  backend: Pick<Backend, 'checkLower'>;
  directory: string;
  lowerFd: number;
  log: (text: string) => void;
}

/** While it serves; the server's half. */
export class BackgroundCheck {
  #problem: string | null = null;
  readonly #stop: () => void;
  readonly #ended: Promise<void>;

  constructor(private readonly options: BackgroundCheckOptions) {
    const { backend, lowerFd, store } = options;
    const check = backend.checkLower({
      lowerFd,
      manifestPath: store.layout.manifest(0),
      limit: LOWER_CHANGES_SHOWN,
      directoriesOnly: false,
      inBackground: true,
    });
    this.#stop = () => check.stop();
    this.#ended = this.#follow(check.changes);
  }

  /** A sentence for `status`; null when nothing was found, or not yet. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Resolves when nothing of it runs any more. */
  async stop(): Promise<void> {
    this.#stop();
    await this.#ended;
  }

  async #follow(found: Promise<LowerChange[]>): Promise<void> {
    const { log } = this.options;
    try {
      const changes = await found;
      if (changes.length === 0) log('the directory is as it was when it was last mounted');
      else await this.#note(changes);
    } catch (error) {
      if (systemCode(error) === 'ECANCELED') return;
      this.#problem = `the original directory could not be compared with the store: ${describe(error)}`;
    }
    if (this.#problem !== null) log(this.#problem);
  }

  async #note(changes: readonly LowerChange[]): Promise<void> {
    const { store, directory } = this.options;
    const what = changedBehind(changes);
    const todo =
      store.head === 0
        ? 'mount again: it is read anew then'
        : `undo the change and mount again, or drop the store with \`siteswap unmount --purge ${directory}\``;
    // Told even when the disk does not take the note.
    this.#problem = `${what} (what is served of it may be wrong; ${todo})`;
    await store.noteLowerChange(what);
  }
}
