/**
 * `.pth` files that two installers changed: three-way, by line. Pure.
 *
 * The order is HEAD's, then what the transaction added. A line that either side removed stays removed. Lines are bytes: a
 * `.pth` file may name a path that is no text.
 */

export function isUnitable(path: string): boolean {
  return path.endsWith('.pth');
}

/** A side that has no such file is the empty file. */
export function uniteLines(base: Buffer, head: Buffer, ours: Buffer): Buffer {
  const [was, theirs, mine] = [base, head, ours].map(linesOf) as [string[], string[], string[]];
  const before = new Set(was);
  const kept = new Set(mine);
  const present = new Set(theirs);
  const united = theirs.filter((line) => line === '' || !before.has(line) || kept.has(line));
  for (const line of mine) {
    if (line === '' || before.has(line) || present.has(line)) continue;
    present.add(line);
    united.push(line);
  }
  return Buffer.from(united.map((line) => `${line}\n`).join(''), 'latin1');
}

/** One character per byte, without the line ends. */
function linesOf(content: Buffer): string[] {
  const text = content.toString('latin1');
  const lines = text.split(/\r?\n/);
  if (lines.at(-1) === '') lines.pop();
  return lines;
}
