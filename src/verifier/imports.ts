/**
 * The import test: every module that a transaction touched is imported in a fresh interpreter, in the tree as it would be.
 * What could be imported before and can't be now is an error. What is new and can't be imported is told: optional parts of
 * packages need what is not installed. What failed before too is not this transaction's doing.
 *
 * How a command is run, and in which tree, is the caller's.
 */
import { randomBytes } from 'node:crypto';
import type { Finding } from '../python/checks/check.js';
import { importCommand, lastPlace, parseAnswer } from './import-script.js';
import type { SandboxOutcome } from './sandbox.js';

export { touchedModules } from './modules.js';

export type View = 'after' | 'before';

export interface ImportTestOptions {
  interpreter: string;
  modules: readonly string[];
  run: (view: View, command: readonly string[]) => Promise<SandboxOutcome>;
  concurrency: number;
  onProgress?: (progress: { done: number; total: number; module: string }) => void;
}

export const MAX_MODULES = 200;
const CHECK = 'import';

/** It can be imported, and something is wrong all the same. `about` compares, `text` tells. */
interface Complaint {
  about: 'end' | 'leftovers';
  text: string;
}

type Result =
  | { kind: 'imported'; complaint: Complaint | null }
  | { kind: 'absent' | 'failed'; text: string; file: string | null }
  | { kind: 'untested'; text: string };

/** Findings in the order of `modules`. */
export async function importTest(options: ImportTestOptions): Promise<Finding[]> {
  const { concurrency, onProgress } = options;
  const modules = options.modules.slice(0, MAX_MODULES);
  const found: Finding[][] = [];
  let next = 0;
  let done = 0;
  const worker = async (): Promise<void> => {
    for (;;) {
      const index = next++;
      const module = modules[index];
      if (module === undefined) return;
      found[index] = await testModule(options, module);
      onProgress?.({ done: ++done, total: modules.length, module });
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, concurrency) }, worker));
  const left = options.modules.length - modules.length;
  const tooMany: Finding[] =
    left === 0 ? [] : [warning('', `only ${MAX_MODULES} of ${options.modules.length} changed modules were imported`)];
  return [...once(found.flat()), ...tooMany];
}

async function testModule(options: ImportTestOptions, module: string): Promise<Finding[]> {
  const after = await importIn('after', options, module);
  if (after.kind === 'imported' && after.complaint === null) return [];
  const before = await importIn('before', options, module);
  // What nobody could look at is not taken for good, and not for a module's fault.
  if (after.kind === 'untested') return [untested(after.text)];
  if (before.kind === 'untested') return [untested(before.text)];
  switch (after.kind) {
    case 'imported':
      if (before.kind === 'imported' && before.complaint?.about === after.complaint?.about) return [];
      return [warning(module, `${module} can be imported, but ${after.complaint?.text}`)];
    case 'absent':
    case 'failed': {
      const path = after.file ?? module;
      if (before.kind === 'imported') return [failure(path, `importing ${module} failed: ${after.text}`)];
      return before.kind === 'absent' ? [warning(path, `new module ${module} does not import: ${after.text}`)] : [];
    }
  }
}

async function importIn(view: View, { interpreter, run }: ImportTestOptions, module: string): Promise<Result> {
  const mark = `siteswap-${randomBytes(16).toString('hex')} `;
  const outcome = await run(view, importCommand(interpreter, module, mark));
  if (outcome.kind === 'sandbox-failed') return { kind: 'untested', text: describeEnd(outcome) };
  const answer = parseAnswer(outcome.output, mark);
  if (answer === null) return { kind: 'failed', text: describeEnd(outcome), file: null };
  if (answer.kind === 'imported') return { kind: 'imported', complaint: complaintAbout(outcome) };
  return { kind: answer.kind, text: answer.text, file: answer.kind === 'failed' ? answer.file : null };
}

/** How the interpreter ended before the import was done. */
function describeEnd(outcome: SandboxOutcome): string {
  const place = lastPlace(outcome.output);
  const where = place === null ? '' : ` (${place})`;
  switch (outcome.kind) {
    case 'exited':
      return `it ended the interpreter with exit code ${outcome.code}`;
    case 'signalled':
      return `the interpreter was killed by ${outcome.signal}${where}`;
    case 'timed-out':
      return `it was not done after ${seconds(outcome)}${where}`;
    case 'too-much-memory':
      return 'it used more memory than a test may';
    case 'too-many-processes':
      return 'it started more processes than a test may';
    case 'failed-to-start':
      return outcome.output;
    case 'sandbox-failed':
      return `the sandbox failed: ${outcome.output}`;
  }
}

/** Null when the interpreter ended well after the import, and nothing was left of it. */
function complaintAbout(outcome: SandboxOutcome): Complaint | null {
  const { kind, leftovers } = outcome;
  const end = (text: string): Complaint => ({ about: 'end', text });
  if (kind === 'timed-out') return end(`the interpreter does not end afterwards (killed after ${seconds(outcome)})`);
  if (kind !== 'exited') return end(`afterwards ${describeEnd(outcome)}`);
  if (outcome.code !== 0) return end(`the interpreter then ends with exit code ${outcome.code}`);
  if (leftovers === 0) return null;
  const what = leftovers === 1 ? 'a process' : `${leftovers} processes`;
  return { about: 'leftovers', text: `it leaves ${what} running (killed)` };
}

function seconds({ durationMs }: SandboxOutcome): string {
  return durationMs < 10_000 ? `${(durationMs / 1000).toFixed(1)} s` : `${Math.round(durationMs / 1000)} s`;
}

function untested(why: string): Finding {
  return failure('', `imports can't be tested: ${why}`);
}

function failure(path: string, message: string): Finding {
  return { severity: 'error', check: CHECK, path, message };
}

function warning(path: string, message: string): Finding {
  return { severity: 'warning', check: CHECK, path, message };
}

/** A sandbox that fails says the same about every module. */
function once(findings: readonly Finding[]): Finding[] {
  const seen = new Set<string>();
  return findings.filter(({ message }) => !seen.has(message) && seen.add(message));
}
