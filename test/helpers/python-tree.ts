/** Trees of files in memory, with distributions as installers write them: for tests of the checks. */
import { createHash } from 'node:crypto';
import { hashByReading } from '../../src/python/checks/hash-by-reading.js';
import type { ChangedPath, CheckInput, Finding } from '../../src/python/checks/input.js';
import type { TreeReader } from '../../src/python/distributions.js';
import { verify } from '../../src/python/verify.js';

/** Path → content. */
export type Files = Record<string, string | Buffer>;

export function memoryTree(files: Files): TreeReader {
  const paths = Object.keys(files);
  return {
    list(path) {
      const prefix = path === '' ? '' : `${path}/`;
      const below = paths.filter((each) => each.startsWith(prefix));
      if (below.length === 0 && path !== '') return null;
      const names = new Set(below.map((each) => each.slice(prefix.length).split('/')[0] ?? ''));
      return [...names].map((name) => ({ name, type: paths.includes(prefix + name) ? 'file' : 'directory' }));
    },
    read: (path) => Promise.resolve(files[path] === undefined ? null : Buffer.from(files[path])),
  };
}

export interface WheelFiles {
  name: string;
  version?: string;
  /** Relative to `directory`. */
  files?: Files;
  requires?: readonly string[];
  installer?: string;
  /** With `/`; where Python looks for it. */
  directory?: string;
  /** More rows. */
  rows?: readonly string[];
}

/** What pip leaves of a wheel. */
export function wheelFiles(wheel: WheelFiles): Files {
  const { name, version = '1.0', files = {}, requires = [], installer = 'pip', directory = '', rows = [] } = wheel;
  const info = `${name.replaceAll('-', '_')}-${version}.dist-info`;
  const needs = requires.map((each) => `Requires-Dist: ${each}\n`).join('');
  const all: Files = {
    ...files,
    [`${info}/METADATA`]: `Metadata-Version: 2.1\nName: ${name}\nVersion: ${version}\n${needs}\nText`,
    [`${info}/INSTALLER`]: `${installer}\n`,
  };
  const lines = Object.entries(all).map(([path, content]) => recordRow(path, content));
  all[`${info}/RECORD`] = [...lines, ...rows, `${info}/RECORD,,`].map((line) => `${line}\n`).join('');
  return Object.fromEntries(Object.entries(all).map(([path, content]) => [directory + path, content]));
}

export function recordRow(path: string, content: string | Buffer): string {
  const bytes = Buffer.from(content);
  return `${path},sha256=${createHash('sha256').update(bytes).digest('base64url')},${bytes.length}`;
}

export function without(files: Files, ...paths: string[]): Files {
  return Object.fromEntries(Object.entries(files).filter(([path]) => !paths.includes(path)));
}

/** As the engine tells them: of added and removed directories too. */
export function changesBetween(before: Files, after: Files): ChangedPath[] {
  const [was, is] = [withDirectories(before), withDirectories(after)];
  const changes: ChangedPath[] = [];
  for (const path of new Set([...was, ...is])) {
    if (!is.has(path)) changes.push({ path, kind: 'removed' });
    else if (!was.has(path)) changes.push({ path, kind: 'added' });
    else if (!same(before[path], after[path])) changes.push({ path, kind: 'modified' });
  }
  return changes;
}

function withDirectories(files: Files): Set<string> {
  const all = new Set<string>();
  for (const path of Object.keys(files)) {
    for (let at = path.indexOf('/'); at >= 0; at = path.indexOf('/', at + 1)) all.add(path.slice(0, at));
    all.add(path);
  }
  return all;
}

function same(one: string | Buffer | undefined, other: string | Buffer | undefined): boolean {
  if (one === undefined || other === undefined) return one === other;
  return Buffer.from(one).equals(Buffer.from(other));
}

/** Of the interpreter, as far as tests ask. */
export const MARKERS = {
  python_version: '3.11',
  python_full_version: '3.11.7',
  sys_platform: 'linux',
  os_name: 'posix',
};

export function checkInput(before: Files, after: Files, more: Partial<CheckInput> = {}): CheckInput {
  const tree = memoryTree(after);
  return {
    before: memoryTree(before),
    after: tree,
    changes: changesBetween(before, after),
    hash: hashByReading(tree),
    markers: MARKERS,
    ...more,
  };
}

/** Of all checks. */
export async function findingsOf(before: Files, after: Files, more: Partial<CheckInput> = {}): Promise<Finding[]> {
  return (await verify(checkInput(before, after, more))).findings;
}

/** `error record: …` of each finding. */
export async function saidOf(before: Files, after: Files, more: Partial<CheckInput> = {}): Promise<string[]> {
  const findings = await findingsOf(before, after, more);
  return findings.map(({ severity, check, message }) => `${severity} ${check}: ${message}`);
}
