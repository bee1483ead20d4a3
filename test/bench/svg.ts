/** The ratios as a picture: bars from the left, a line where the plain directory is. Pure; readable on light and dark. */
import type { Row } from './table.js';

const WIDTH = 860;
const LABEL = 250;
const BAR = 11;
const GAP = 2;
const ROW_GAP = 16;
const TOP = 76;
const RIGHT = 56;
/** What is slower than this is drawn to the edge, with its number. */
const MOST = 4;

const COLOURS: Record<string, string> = {
  overlayfs: '#8a94a6',
  siteswap: '#1f9d63',
  'fuse-overlayfs': '#d98324',
  mergerfs: '#7a6bd1',
  'unionfs-fuse': '#c6538c',
};
const OTHER_COLOUR = '#4c9fc9';

export interface Picture {
  rows: readonly Row[];
  /** The first is the one that the ratios are to: it is the line. */
  subjects: readonly string[];
  titles: ReadonlyMap<string, string>;
  caption: string;
}

export function svg({ rows, subjects, titles, caption }: Picture): string {
  const drawn = subjects.slice(1);
  const scale = (WIDTH - LABEL - RIGHT) / MOST;
  const rowHeight = drawn.length * (BAR + GAP) + ROW_GAP;
  const height = TOP + rows.length * rowHeight + 24;
  const title = (name: string): string => escapeXml(titles.get(name) ?? name);
  const parts: string[] = [];
  parts.push(text(12, 22, 'title', 'Time relative to the plain directory (shorter is better)'));
  parts.push(text(12, 40, 'small', escapeXml(caption)));
  let x = 12;
  for (const subject of drawn) {
    parts.push(`<rect x="${x}" y="51" width="11" height="11" rx="2" fill="${colour(subject)}"/>`);
    parts.push(text(x + 16, 61, 'small', title(subject)));
    x += 34 + (titles.get(subject) ?? subject).length * 6.6;
  }
  rows.forEach((row, index) => {
    const top = TOP + index * rowHeight;
    parts.push(text(LABEL - 10, top + (rowHeight - ROW_GAP) / 2 + 4, 'label', title(row.work)));
    drawn.forEach((subject, position) => {
      const y = top + position * (BAR + GAP);
      const ratio = row.cells.get(subject)?.ratio;
      if (ratio === undefined || ratio === null) return;
      const width = Math.min(ratio, MOST) * scale;
      parts.push(
        `<rect x="${LABEL}" y="${y}" width="${width.toFixed(1)}" height="${BAR}" rx="2" fill="${colour(subject)}"/>`,
        text(LABEL + width + 4, y + BAR - 2, 'number', ratio.toFixed(2)),
      );
    });
  });
  const one = LABEL + scale;
  parts.push(`<line x1="${one}" y1="${TOP - 6}" x2="${one}" y2="${height - 22}" class="one"/>`);
  parts.push(text(one, height - 8, 'middle', '1.00 = plain directory'));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img">`,
    STYLE,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

const STYLE = `<style>
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; }
.small, .number, .middle { font-size: 11px; }
.label { text-anchor: end; }
.middle { text-anchor: middle; }
.one { stroke: #24292f; stroke-dasharray: 4 3; }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3; } .one { stroke: #e6edf3; } }
</style>`;

function text(x: number, y: number, style: string, content: string): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" class="${style}">${content}</text>`;
}

function colour(subject: string): string {
  return COLOURS[subject] ?? OTHER_COLOUR;
}

function escapeXml(value: string): string {
  return value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}
