/** Builds wheels without any build tool: a zip with right metadata and RECORD, or with parts left out on purpose. */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { zipSync, type Zippable } from 'fflate';

export interface WheelOptions {
  name: string;
  version: string;
  /** By path in site-packages. */
  files: Record<string, string | Buffer>;
  /** Console scripts: name → `module:function`. */
  entryPoints?: Record<string, string>;
  /** `Requires-Dist` lines. */
  requires?: string[];
  /** What the metadata directory lacks. (pip itself refuses a wheel without RECORD or METADATA.) */
  omit?: ('RECORD' | 'METADATA')[];
  /** What RECORD says of files, where that is not what is in them, or there is none. */
  recorded?: Record<string, string | Buffer>;
  /** Where the wheel is written; made if need be. */
  dir: string;
}

/** A name's form in file names: PEP 427 (lower case, `_` for every run of `-_.`). */
export function escapeName(name: string): string {
  return name.replace(/[-_.]+/g, '_').toLowerCase();
}

export function buildWheel(options: WheelOptions): string {
  const { name, version, files, entryPoints, requires = [], omit = [], recorded = {}, dir } = options;
  const stem = `${escapeName(name)}-${version}`;
  const info = `${stem}.dist-info`;
  const contents = new Map(Object.entries(files).map(([path, content]) => [path, Buffer.from(content)]));
  const metadata = [
    'Metadata-Version: 2.1',
    `Name: ${name}`,
    `Version: ${version}`,
    ...requires.map((line) => `Requires-Dist: ${line}`),
  ];
  const wheel = ['Wheel-Version: 1.0', 'Generator: siteswap-test', 'Root-Is-Purelib: true', 'Tag: py3-none-any'];
  if (!omit.includes('METADATA')) contents.set(`${info}/METADATA`, text(metadata));
  contents.set(`${info}/WHEEL`, text(wheel));
  if (entryPoints) {
    const scripts = Object.entries(entryPoints).map(([script, target]) => `${script} = ${target}`);
    contents.set(`${info}/entry_points.txt`, text(['[console_scripts]', ...scripts]));
  }
  if (!omit.includes('RECORD')) {
    const listed = new Map([...contents, ...Object.entries(recorded)]);
    const rows = [...listed].map(
      ([path, content]) => `${csv(path)},sha256=${digest(content)},${Buffer.byteLength(content)}`,
    );
    contents.set(`${info}/RECORD`, text([...rows, `${csv(`${info}/RECORD`)},,`]));
  }
  const zip: Zippable = {};
  // A fixed time: the same options give the same bytes. os 3 (Unix) with ordinary modes.
  for (const [path, content] of contents) {
    zip[path] = [content, { level: 0, mtime: new Date(2020, 0, 1), os: 3, attrs: 0o100644 << 16 }];
  }
  mkdirSync(dir, { recursive: true });
  const path = join(dir, `${stem}-py3-none-any.whl`);
  writeFileSync(path, zipSync(zip));
  return path;
}

function text(lines: string[]): Buffer<ArrayBuffer> {
  return Buffer.from(`${lines.join('\n')}\n`);
}

function digest(content: Uint8Array | string): string {
  return createHash('sha256').update(content).digest('base64url');
}

function csv(field: string): string {
  return /[",\r\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field;
}
