/** The results as text: one row a work, one column a subject. Pure. */
import { spreadOf, type Spread } from './statistics.js';

export interface Point {
  work: string;
  subject: string;
  seconds: number;
}

export interface Row {
  work: string;
  /** By subject; a subject that has no sample is missing. */
  cells: Map<string, Cell>;
}

export interface Cell extends Spread {
  /** To the first subject's median; null when that is missing. */
  ratio: number | null;
}

export function rowsOf(points: readonly Point[], subjects: readonly string[]): Row[] {
  const works = [...new Set(points.map(({ work }) => work))];
  return works.map((work) => {
    const spreads = new Map<string, Spread>();
    for (const subject of subjects) {
      const seconds = points.filter((point) => point.work === work && point.subject === subject);
      if (seconds.length > 0) spreads.set(subject, spreadOf(seconds.map((point) => point.seconds)));
    }
    const base = spreads.get(subjects[0] ?? '')?.median;
    const cells = new Map<string, Cell>();
    for (const [subject, spread] of spreads) {
      cells.set(subject, { ...spread, ratio: base === undefined || base === 0 ? null : spread.median / base });
    }
    return { work, cells };
  });
}

/** The first column's times with their spread, and the ratios of the others. */
export function table(rows: readonly Row[], subjects: readonly string[], titles: ReadonlyMap<string, string>): string {
  const title = (name: string): string => titles.get(name) ?? name;
  const lines = [['work', ...subjects.map(title)]];
  for (const { work, cells } of rows) {
    const texts = subjects.map((subject, column) => {
      const cell = cells.get(subject);
      if (cell === undefined) return '-';
      return column === 0 || cell.ratio === null ? amount(cell, work) : ratioText(cell);
    });
    lines.push([title(work), ...texts]);
  }
  return align(lines);
}

function ratioText({ ratio, median, low, high }: Cell): string {
  const scale = ratio! / (median || 1);
  return `${ratio!.toFixed(2)} (${(low * scale).toFixed(2)}–${(high * scale).toFixed(2)})`;
}

function amount({ median, low, high }: Cell, work: string): string {
  if (work.endsWith('-memory')) return `${(median / (1 << 20)).toFixed(0)} MiB`;
  return `${duration(median)} (${duration(low)}–${duration(high)})`;
}

export function duration(seconds: number): string {
  if (seconds >= 10) return `${seconds.toFixed(1)} s`;
  if (seconds >= 1) return `${seconds.toFixed(2)} s`;
  const ms = seconds * 1000;
  return `${ms >= 100 ? ms.toFixed(0) : ms >= 1 ? ms.toFixed(1) : ms.toFixed(3)} ms`;
}

export function align(lines: readonly (readonly string[])[]): string {
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map((cells) => cells[column]?.length ?? 0)));
  return lines
    .map((cells) =>
      cells
        .map((text, column) => text.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Requests by opcode, most frequent first; of several repetitions, the last one's. */
export function requestsText(requests: Record<string, number>): string {
  const sorted = Object.entries(requests).sort(([, a], [, b]) => b - a);
  return sorted.length === 0 ? 'none' : sorted.map(([name, count]) => `${count} ${name}`).join(', ');
}
