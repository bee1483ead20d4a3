/**
 * Judges a history: which looks saw what no moment of the directory was like. Pure.
 *
 * Kinds: `torn` (two versions of one distribution in one look), `mixed` (versions of several distributions that were
 * never there together), `uncommitted` (a version that was never installed as a whole), `stale` and `early` (order in
 * time, see linearize.ts), `error` (a look that failed), `log` (the commit log contradicts the installers).
 */
import type { Domain, Replay } from './commit-log.js';
import { how } from './commit-log.js';
import { serialOf, type History, type Look, type Value } from './history.js';
import { linearize, type Read } from './linearize.js';

export const KINDS = ['torn', 'mixed', 'uncommitted', 'stale', 'early', 'error', 'log'] as const;
export type Kind = (typeof KINDS)[number];

export interface Finding {
  kind: Kind;
  /** The reader's kind, or `-`. */
  reader: string;
  /** What was mixed up, or the error's type: what counts are made of. */
  about: string;
  text: string;
}

type Range = [from: number, to: number];

export function judge(history: History, replay: Replay): Finding[] {
  const findings: Finding[] = replay.problems.map((text) => ({ kind: 'log', reader: '-', about: 'log', text }));
  for (const outcome of history.outcomes.filter(({ hung }) => hung)) {
    findings.push({ kind: 'error', reader: 'installer', about: 'hung', text: `operation ${outcome.op} did not end` });
  }
  for (const outcome of unexpectedFailures(history)) {
    const text = `operation ${outcome.op}: ${how(outcome)}: ${outcome.stderr.trim().split('\n').at(-1)}`;
    findings.push({ kind: 'error', reader: 'installer', about: how(outcome), text });
  }
  const versions = new Map([...history.operations.values()].map(({ value }) => [value && serialOf(value), value]));
  const whole: { look: Look; seen: Map<string, Value> }[] = [];
  for (const look of history.looks) {
    const reader = readerOf(look);
    for (const [about, text] of look.errors) findings.push({ kind: 'error', reader, about, text: at(look, text) });
    const seen = new Map<string, Value>();
    for (const [distribution, reads] of Object.entries(look.seen)) {
      const named = Object.entries(reads).map(([what, read]): [string, Value] => [what, version(read, versions)]);
      const [first, ...rest] = named;
      const other = rest.find(([, value]) => value !== first![1]);
      if (other) {
        const about = `${first![0]} / ${other[0]}`;
        const text = at(look, `${distribution}: ${named.map(([what, value]) => `${what} ${value}`).join(', ')}`);
        findings.push({ kind: 'torn', reader, about, text });
      } else if (first) {
        seen.set(distribution, first[1]);
      }
    }
    if (seen.size > 0) whole.push({ look, seen });
  }
  for (const domain of replay.domains) findings.push(...judgeOrder(domain, whole, history));
  return findings;
}

function unexpectedFailures({ operations, outcomes }: History): History['outcomes'] {
  // Who is killed or races with another of the same distribution may fail.
  return outcomes.filter(({ op, code }) => code !== null && code !== 0 && !operations.get(op)!.contended);
}

function version(read: Value | number, versions: ReadonlyMap<number | null | '', Value>): Value {
  return typeof read === 'number' ? (versions.get(read) ?? `?.${read}`) : read;
}

export function readerOf({ kind, how }: Look): string {
  return how === undefined || how === 'fork' ? kind : `${kind} (${how})`;
}

function at({ pid, begin, end }: Look, text: string): string {
  return `process ${pid} from ${seconds(begin)} to ${seconds(end)}: ${text}`;
}

function seconds(time: number): string {
  return `${(time / 1e9).toFixed(4)} s`;
}

function judgeOrder(domain: Domain, looks: { look: Look; seen: Map<string, Value> }[], history: History): Finding[] {
  const findings: Finding[] = [];
  const index = indexStates(domain);
  const reads: (Read & { look: Look; text: string })[] = [];
  for (const { look, seen } of looks) {
    const ours = [...seen].filter(([name]) => domain.distributions.includes(name));
    if (ours.length === 0) continue;
    const reader = readerOf(look);
    const text = at(look, ours.map(([name, value]) => `${name} ${value}`).join(', '));
    const unknown = ours.filter(([name, value]) => !index.has(`${name} ${value}`));
    for (const [name, value] of unknown) {
      const by = [...history.operations.values()].find((each) => each.distribution === name && each.value === value);
      const outcome = history.outcomes.find(({ op }) => op === by?.id);
      const about = outcome ? how(outcome) : 'nobody';
      findings.push({
        kind: 'uncommitted',
        reader,
        about,
        text: `${text}: ${name} ${value} is of operation ${by?.id}`,
      });
    }
    if (unknown.length > 0) continue;
    const allowed = ours.map(([name, value]) => index.get(`${name} ${value}`)!).reduce(intersect);
    if (allowed.length === 0) {
      findings.push({ kind: 'mixed', reader, about: 'distributions', text });
      continue;
    }
    const own = look.after === undefined ? 0 : (domain.stateOf.get(look.after) ?? 0);
    const later = intersect(allowed, [[own, domain.commits.length]]);
    if (later.length === 0) {
      const why = `its own child's install is state ${own}`;
      findings.push({ kind: 'stale', reader, about: 'own install', text: `${text}: ${why}` });
    } else {
      reads.push({ look, text, allowed: later, begin: look.begin, end: look.end });
    }
  }
  if (!domain.ordered) return findings;
  for (const violation of linearize(domain.commits, reads)) {
    const { look, text, allowed } = reads[violation.read]!;
    const reader = readerOf(look);
    const states = `states ${allowed.map(([from, to]) => `${from}-${to}`).join(',')} of ${domain.commits.length}`;
    if (violation.kind === 'early') {
      const { notBefore } = domain.commits[violation.saw - 1]!;
      const why = `state ${violation.saw} can't be before ${seconds(notBefore)}`;
      findings.push({ kind: 'early', reader, about: 'order', text: `${text}: ${states}; ${why}` });
    } else {
      const { because, mustSee } = violation;
      const why =
        'read' in because
          ? `${readerOf(reads[because.read]!.look)} saw it: ${reads[because.read]!.text}`
          : `its installer was done at ${seconds(domain.commits[because.commit - 1]!.visibleFrom)}`;
      findings.push({ kind: 'stale', reader, about: 'order', text: `${text}: ${states}; must see ${mustSee}: ${why}` });
    }
  }
  return findings;
}

/** `name version` → the states in which it was so. */
function indexStates({ distributions, states }: Domain): Map<string, Range[]> {
  const index = new Map<string, Range[]>();
  for (const [number, state] of states.entries()) {
    for (const name of distributions) {
      const key = `${name} ${state.get(name)}`;
      const ranges = index.get(key) ?? [];
      const last = ranges.at(-1);
      if (last?.[1] === number - 1) last[1] = number;
      else ranges.push([number, number]);
      index.set(key, ranges);
    }
  }
  return index;
}

function intersect(a: Range[], b: Range[]): Range[] {
  const both: Range[] = [];
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    const from = Math.max(a[i]![0], b[j]![0]);
    const to = Math.min(a[i]![1], b[j]![1]);
    if (from <= to) both.push([from, to]);
    if (a[i]![1] < b[j]![1]) i++;
    else j++;
  }
  return both;
}
