/** What is computed from samples: pure. Used by table.ts, svg.ts and main.ts. */

export interface Spread {
  median: number;
  low: number;
  high: number;
  count: number;
}

/** Of at least one number. `low` and `high` are the quartiles from five samples on, before that the extremes. */
export function spreadOf(samples: readonly number[]): Spread {
  const sorted = [...samples].sort((a, b) => a - b);
  const quartiles = sorted.length >= 5;
  return {
    median: quantile(sorted, 0.5),
    low: quantile(sorted, quartiles ? 0.25 : 0),
    high: quantile(sorted, quartiles ? 0.75 : 1),
    count: sorted.length,
  };
}

/** With linear interpolation; `sorted` has at least one number. */
export function quantile(sorted: readonly number[], at: number): number {
  if (sorted.length === 0) throw new RangeError('no samples');
  const position = (sorted.length - 1) * at;
  const before = sorted[Math.floor(position)]!;
  const after = sorted[Math.ceil(position)]!;
  return before + (after - before) * (position - Math.floor(position));
}

/** What was counted between two readings of counters that only grow; names without a difference are left out. */
export function difference(before: Record<string, number>, after: Record<string, number>): Record<string, number> {
  const changed = Object.entries(after).map(([name, count]) => [name, count - (before[name] ?? 0)] as const);
  return Object.fromEntries(changed.filter(([, count]) => count !== 0));
}

/** The order in which round `round` goes over the subjects: each is first as often as any other. */
export function rotated<T>(items: readonly T[], round: number): T[] {
  const from = items.length === 0 ? 0 : round % items.length;
  return [...items.slice(from), ...items.slice(0, from)];
}
