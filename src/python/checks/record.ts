/**
 * RECORD says what was installed: every file is there, with the right size and hash. Rows that are as before, of files
 * that were not touched, are not looked at; nor are rows without a hash, further than that there is a file.
 */
import { joinPath } from '../distributions.js';
import type { RecordRow } from '../record.js';
import type { Check } from './check.js';
import { isInstallersNote, type Claims } from './claims.js';
import type { CheckContext, TouchedMetadata } from './context.js';
import type { Finding } from './input.js';
import { mapSome } from './map-some.js';
import { isOrphan } from './orphan-metadata.js';
import { isBytecode } from './tree-index.js';
import { count, listed, listedPaths, shown } from './words.js';

/** That Python guarantees, and the specification allows. */
const ALGORITHMS: ReadonlySet<string> = new Set(['sha256', 'sha384', 'sha512']);

export const record: Check = {
  name: 'record',
  async run(context) {
    const findings: Finding[] = [];
    // One after the other: within one, files are hashed side by side.
    for (const touched of context.metadata) {
      if (touched.kind === 'dist-info' && touched.isDirectory) findings.push(...(await checkOne(touched, context)));
    }
    return findings;
  },
};

async function checkOne(touched: TouchedMetadata, context: CheckContext): Promise<Finding[]> {
  const { path } = touched;
  const file = joinPath(path, 'RECORD');
  const trust = await context.trustIn(path);
  const severity = trust === 'installer' ? 'error' : 'warning';
  const finding = (severity: Finding['severity'], at: string, message: string): Finding => ({
    severity,
    check: 'record',
    path: at,
    message,
  });
  const claims = await context.claimsOf(touched);
  if (claims.source === 'none') {
    if (context.after.typeOf(file) === 'symlink') return [];
    return trust === 'system' || !touched.written ? [] : [finding('error', file, `${shown(path)} has no RECORD`)];
  }
  const findings: Finding[] = [];
  const rewritten = context.kinds.has(file);
  if (rewritten && claims.problems.length > 0) {
    findings.push(finding('warning', file, `${shown(file)}: ${listed(claims.problems.map(shown))}`));
  }
  if (rewritten && claims.problems.length === 0 && !claims.files.has(joinPath(path, 'METADATA'))) {
    findings.push(finding('warning', file, `${shown(file)} does not list METADATA: cut short, or not an installer's`));
  }
  const paths = (await context.newClaims(claims)).filter((each) => !isBytecode(each));
  const missing = paths.filter((each) => !context.after.has(each));
  if (missing.length > 0 && !isOrphan(claims, context.after)) {
    const what = `${shown(file)} lists ${count(missing.length, 'file')} that ${missing.length === 1 ? 'is' : 'are'} missing`;
    findings.push(finding(severity, missing[0] ?? file, `${what}: ${listedPaths(missing)}`));
  }
  if (trust !== 'system') findings.push(...(await contents(claims, paths, severity, context)));
  const outside = trust === 'installer' ? missingOutside(touched, claims, context) : [];
  if (rewritten && outside.length > 0) {
    const what = `${shown(file)} lists ${count(outside.length, 'file')} outside of the tree that ${outside.length === 1 ? 'is' : 'are'} missing`;
    findings.push(finding('warning', outside[0] ?? file, `${what}: ${listedPaths(outside)}`));
  }
  return findings;
}

async function contents(
  claims: Claims,
  paths: readonly string[],
  severity: Finding['severity'],
  context: CheckContext,
): Promise<Finding[]> {
  const file = joinPath(claims.path, 'RECORD');
  const wrong: { path: string; why: string }[] = [];
  const unknown = new Set<string>();
  const toHash = paths.filter((path) => !isInstallersNote(path, claims.path) && context.after.typeOf(path) === 'file');
  await mapSome(toHash, async (path) => {
    const row = claims.files.get(path);
    if (!row?.hash) return;
    if (!ALGORITHMS.has(row.hash.algorithm)) {
      unknown.add(row.hash.algorithm);
      return;
    }
    const why = await difference(path, row, row.hash, context);
    if (why !== null) wrong.push({ path, why });
  });
  wrong.sort((a, b) => (a.path < b.path ? -1 : 1));
  const findings: Finding[] = [];
  if (wrong.length > 0) {
    const what = `${count(wrong.length, 'file')} ${wrong.length === 1 ? 'is' : 'are'} not what ${shown(file)} says`;
    const all = listed(wrong.map(({ path, why }) => `${shown(path)} (${why})`));
    findings.push({ severity, check: 'record', path: wrong[0]?.path ?? file, message: `${what}: ${all}` });
  }
  if (unknown.size > 0) {
    const message = `${shown(file)} has hashes that can't be checked: ${listedPaths([...unknown].sort())}`;
    findings.push({ severity: 'warning', check: 'record', path: file, message });
  }
  return findings;
}

async function difference(
  path: string,
  row: RecordRow,
  { algorithm, digest }: NonNullable<RecordRow['hash']>,
  { input }: CheckContext,
): Promise<string | null> {
  const is = await input.hash(path, algorithm);
  if (is === null) return null;
  if (row.sizeBytes !== null && row.sizeBytes !== is.sizeBytes) return `${is.sizeBytes} bytes, not ${row.sizeBytes}`;
  return is.digest.equals(digest) ? null : `another ${algorithm}`;
}

function missingOutside({ directory }: TouchedMetadata, claims: Claims, { input, after }: CheckContext): string[] {
  const { existsOutside } = input;
  if (!existsOutside) return [];
  return claims.outside.filter((path) => {
    // pip's `--target` puts scripts into TARGET/bin and records where they would have been.
    const script = /(?:^|\/)(bin\/[^/]+)$/.exec(path)?.[1];
    if (isBytecode(path) || (script !== undefined && after.has(joinPath(directory, script)))) return false;
    return !existsOutside(path);
  });
}
