/**
 * Distributions that HEAD changed since a transaction's base and that the transaction changed too: their files need not
 * meet anywhere (the metadata directories of two versions have different names), and yet both can't be installed. Pure.
 *
 * When both arrive at the same version, only their files can disagree: then paths decide.
 */
import type { Generation, PackageChange } from '../store/generation.js';

export interface Clash {
  /** Normalised. */
  name: string;
  /** What HEAD has; null: removed. */
  version: string | null;
  /** The generation that brought it. */
  winner: Generation;
}

/** `since`: the generations after the transaction's base, newest first. */
export function clashesOf(packages: readonly PackageChange[], since: readonly Generation[]): Clash[] {
  return packages.flatMap(({ name, to }) => {
    const winner = since.find((generation) => generation.packages.some((change) => change.name === name));
    if (!winner) return [];
    const version = winner.packages.find((change) => change.name === name)?.to ?? null;
    return version === to ? [] : [{ name, version, winner }];
  });
}

/** As seen from HEAD, when the transaction takes over from it all the same. */
export function packagesFrom(packages: readonly PackageChange[], clashes: readonly Clash[]): PackageChange[] {
  const before = new Map(clashes.map(({ name, version }) => [name, version]));
  return packages.map((change) => ({
    ...change,
    from: before.has(change.name) ? (before.get(change.name) ?? null) : change.from,
  }));
}
