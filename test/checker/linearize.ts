/**
 * Linearizability of reads against a known sequence of commits. Pure.
 *
 * States 0..n follow each other; state k (from 1) begins at an unknown time t(k) >= `notBefore`, in order. A read with
 * the interval [begin, end] saw one of its allowed states g, at one moment p of the interval: t(g) <= p < t(g + 1). A read
 * that begins after `visibleFrom` of k must see k or a later one (the commit may still be worked on then, and the read
 * made to wait). The history is fine when such times exist.
 *
 * They exist exactly if each read can be given a state so that no read has an older one than a read that ended before
 * it began, or than a commit that had to be visible; and none that could not have begun by the read's end. These are
 * difference constraints: there is no other cycle. The smallest choice for each read in order of `begin` is the smallest
 * of all solutions, so it is enough to try that.
 */

export interface Commit {
  notBefore: number;
  visibleFrom: number;
}

export interface Read {
  begin: number;
  end: number;
  /** Ranges of states, inclusive, ascending, disjoint, not empty. */
  allowed: readonly (readonly [from: number, to: number])[];
}

export type Violation =
  /** It saw an older state than what came before it: another read, or a commit. */
  | { kind: 'stale'; read: number; mustSee: number; because: { read: number } | { commit: number } }
  /** It saw a state that could not have begun by then. */
  | { kind: 'early'; read: number; saw: number };

/** `commits[k - 1]` begins state k. Reads that violate are left out of what is asked of later ones. */
export function linearize(commits: readonly Commit[], reads: readonly Read[]): Violation[] {
  const byBegin = [...reads.keys()].sort((a, b) => reads[a]!.begin - reads[b]!.begin);
  const byEnd = [...reads.keys()].sort((a, b) => reads[a]!.end - reads[b]!.end);
  const byVisible = [...commits.keys()].sort((a, b) => commits[a]!.visibleFrom - commits[b]!.visibleFrom);
  const possible = possibleStates(commits);
  const given = new Map<number, number>();
  const violations: Violation[] = [];
  let mustSee = 0;
  let because: { read: number } | { commit: number } = { commit: 0 };
  let ended = 0;
  let visible = 0;
  for (const index of byBegin) {
    const { begin, end, allowed } = reads[index]!;
    for (; visible < byVisible.length && commits[byVisible[visible]!]!.visibleFrom < begin; visible++) {
      const state = byVisible[visible]! + 1;
      if (state > mustSee) [mustSee, because] = [state, { commit: state }];
    }
    for (; ended < byEnd.length && reads[byEnd[ended]!]!.end < begin; ended++) {
      const state = given.get(byEnd[ended]!) ?? 0;
      if (state > mustSee) [mustSee, because] = [state, { read: byEnd[ended]! }];
    }
    const range = allowed.find(([, to]) => to >= mustSee);
    if (!range) {
      violations.push({ kind: 'stale', read: index, mustSee, because });
      continue;
    }
    const saw = Math.max(range[0], mustSee);
    if (saw > possible(end)) violations.push({ kind: 'early', read: index, saw });
    else given.set(index, saw);
  }
  return violations;
}

/** The latest state that can have begun at a time: all before it must have begun, too. */
function possibleStates(commits: readonly Commit[]): (time: number) => number {
  const earliest: number[] = [];
  for (const { notBefore } of commits) earliest.push(Math.max(notBefore, earliest.at(-1) ?? -Infinity));
  return (time) => {
    let low = 0;
    let high = earliest.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (earliest[middle]! <= time) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}
