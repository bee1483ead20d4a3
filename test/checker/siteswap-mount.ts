/** What the checker asks the server of a siteswap mount; null for any other directory. */
import { ask } from '../../src/cli/target.js';
import { findMount } from '../../src/daemon/mountinfo.js';
import { opOf, type LoggedGeneration } from './commit-log.js';

const SETTLE_TIMEOUT_MS = 60_000;

export class SiteswapDirectory {
  #first = 0;

  private constructor(private readonly store: string) {}

  static find(directory: string): SiteswapDirectory | null {
    const mount = findMount(directory);
    return mount && new SiteswapDirectory(mount.store);
  }

  async begin(): Promise<void> {
    const { generations } = await ask(this.store, 'log', { limit: 1 });
    this.#first = (generations[0]?.generation ?? 0) + 1;
  }

  /** Until nothing is being committed. */
  async settle(): Promise<void> {
    await ask(this.store, 'wait', { timeoutMs: SETTLE_TIMEOUT_MS });
  }

  /** Kept transactions of ours are views: they would keep the kernel from caching. */
  async dropRefused(): Promise<void> {
    const { transactions } = await ask(this.store, 'status', {});
    for (const { id, state, command } of transactions) {
      if (state === 'refused' && opOf(command) !== null) await ask(this.store, 'abort', { transaction: id });
    }
  }

  /** Oldest first, since begin(). */
  async generations(): Promise<LoggedGeneration[]> {
    const { generations } = await ask(this.store, 'log', {});
    return generations
      .filter(({ generation }) => generation >= this.#first)
      .sort((a, b) => a.generation - b.generation);
  }
}
