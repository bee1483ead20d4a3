/** The checker's result, as a table and as data. Pure. */
import type { Replay } from './commit-log.js';
import type { History } from './history.js';
import { KINDS, readerOf, type Finding } from './judge.js';

const EXAMPLES_OF_A_KIND = 4;

export interface Report {
  directory: string;
  mode: string;
  seed: number;
  seconds: number;
  observations: Record<string, number>;
  installs: { run: number; committed: number; aborted: number; refused: number };
  violations: number;
  /** By kind, then by reader, then by what it is about. */
  counts: Record<string, Record<string, Record<string, number>>>;
  examples: string[];
}

export function makeReport(
  about: Pick<Report, 'directory' | 'mode' | 'seed' | 'seconds'>,
  history: History,
  replay: Replay,
  findings: readonly Finding[],
): Report {
  const observations: Report['observations'] = {};
  for (const look of history.looks) observations[readerOf(look)] = (observations[readerOf(look)] ?? 0) + 1;
  const counts: Report['counts'] = {};
  const examples: string[] = [];
  for (const kind of KINDS) {
    const ofKind = findings.filter((finding) => finding.kind === kind);
    const byReader = (counts[kind] = {} as Record<string, Record<string, number>>);
    for (const { reader, about } of ofKind) {
      const row = (byReader[reader] ??= {});
      row[about] = (row[about] ?? 0) + 1;
    }
    for (const finding of ofKind.slice(0, EXAMPLES_OF_A_KIND)) {
      examples.push(`${kind}, ${finding.reader}: ${finding.text}`);
    }
  }
  const { committed, aborted, refused } = replay;
  const installs = { run: history.outcomes.length, committed, aborted, refused };
  return { ...about, observations, installs, violations: findings.length, counts, examples };
}

export function formatReport(report: Report): string {
  const { directory, mode, seed, seconds, observations, installs, counts, violations } = report;
  const lines = [
    `checked ${directory} (${mode}) for ${Math.round(seconds)} s, seed ${seed}`,
    `installs: ${installs.run}: ${installs.committed} committed, ${installs.aborted} killed or failed, ${installs.refused} refused`,
    '',
  ];
  const readers = [...new Set([...Object.keys(observations), ...Object.values(counts).flatMap(Object.keys)])].sort();
  const total = (kind: string, reader: string): number =>
    Object.values(counts[kind]?.[reader] ?? {}).reduce((sum, count) => sum + count, 0);
  const rows = readers.map((reader) => [
    reader,
    String(observations[reader] ?? 0),
    ...KINDS.map((kind) => String(total(kind, reader))),
  ]);
  const sums = KINDS.map((kind) => String(readers.reduce((sum, reader) => sum + total(kind, reader), 0)));
  const all = Object.values(observations).reduce((sum, count) => sum + count, 0);
  lines.push(...aligned([['READER', 'OBSERVATIONS', ...KINDS.map((kind) => kind.toUpperCase())], ...rows]));
  lines.push(...aligned([['all', String(all), ...sums]], ['READER', 'OBSERVATIONS', ...KINDS], rows));
  for (const kind of KINDS) {
    const merged = new Map<string, number>();
    for (const row of Object.values(counts[kind] ?? {})) {
      for (const [about, count] of Object.entries(row)) merged.set(about, (merged.get(about) ?? 0) + count);
    }
    if (merged.size === 0) continue;
    const parts = [...merged].sort(([, a], [, b]) => b - a).map(([about, count]) => `${about} ${count}`);
    lines.push('', `${kind}: ${parts.slice(0, 12).join('; ')}`);
  }
  if (report.examples.length > 0) lines.push('', 'for example:', ...report.examples.map((text) => `  ${text}`));
  lines.push('', violations === 0 ? 'no violation' : `${violations} violations`);
  return lines.join('\n');
}

/** Numbers to the right. `like`: other rows whose widths count, too. */
function aligned(rows: string[][], ...like: (string[] | string[][])[]): string[] {
  const others = like.flatMap((each) => (Array.isArray(each[0]) ? (each as string[][]) : [each as string[]]));
  const widths = rows[0]!.map((_, column) => Math.max(...[...rows, ...others].map((row) => row[column]!.length)));
  return rows.map((row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!))).join('  '),
  );
}
