/**
 * Requirements, as `pip check` would judge them, compared with before: an install that makes a version unfit for another
 * distribution is refused. What is missing is told: `pip install --no-deps` and `pip uninstall` do that on purpose.
 * What was broken before and still is, is not this transaction's.
 */
import { normalizeName } from '../dist-info.js';
import { evaluateMarker, type MarkerEnvironment } from '../markers.js';
import { parseRequirement, type Requirement } from '../requirement.js';
import { allows, parseVersion } from '../version.js';
import type { Check } from './check.js';
import type { DistributionFacts } from './facts.js';
import type { Finding } from './input.js';

export interface DependencyOptions {
  /** Null: requirements with a marker that needs them are left out. */
  markers: MarkerEnvironment | null;
  /** What the interpreter finds in other directories. */
  elsewhere?: readonly { name: string; version: string }[];
}

interface Problem {
  owner: DistributionFacts;
  requirement: Requirement;
  /** Null: missing. */
  installed: string | null;
}

export const dependencies: Check = {
  name: 'dependencies',
  async run(context) {
    const { markers, installedElsewhere = [] } = context.input;
    if (context.directories.length === 0) return [];
    const [before, after] = [await context.factsBefore(), await context.factsAfter()];
    return dependencyFindings(before, after, { markers, elsewhere: installedElsewhere });
  },
};

/** Also for lists that belong to no tree: what a merge of two transactions will have. */
export function dependencyFindings(
  before: readonly DistributionFacts[],
  after: readonly DistributionFacts[],
  options: DependencyOptions,
): Finding[] {
  const was = problems(before, options);
  const hadBefore = new Set(before.map(({ name }) => name));
  const findings: Finding[] = [];
  for (const [key, problem] of problems(after, options)) {
    const old = was.get(key);
    const missing = problem.installed === null;
    if (old && (missing || old.installed !== null)) continue;
    const error = !missing && !old;
    findings.push({
      severity: error ? 'error' : 'warning',
      check: 'dependencies',
      path: problem.owner.path,
      message: messageOf(problem, hadBefore),
    });
  }
  return findings;
}

function messageOf({ owner, requirement, installed }: Problem, hadBefore: ReadonlySet<string>): string {
  const { project, name, specifiers } = requirement;
  const versions = specifiers.map(({ operator, text, prefix }) => `${operator}${text}${prefix ? '.*' : ''}`).join(',');
  const needs = `${[owner.project, owner.version].filter(Boolean).join(' ')} needs ${project}${versions}`;
  if (installed !== null) return `${needs}, but ${project} ${installed} is installed`;
  return `${needs}, which is ${hadBefore.has(name) ? 'no longer' : 'not'} installed`;
}

/** By who needs what; one problem each. */
function problems(all: readonly DistributionFacts[], options: DependencyOptions): Map<string, Problem> {
  const { markers, elsewhere = [] } = options;
  const versions = new Map<string, string[]>();
  for (const { name, version } of [...all, ...elsewhere]) {
    const key = normalizeName(name);
    versions.set(key, [...(versions.get(key) ?? []), version]);
  }
  const byName = new Map(all.map((facts) => [facts.name, facts]));
  const found = new Map<string, Problem>();
  // Extras of a distribution count when another one asks for them.
  const queue = all.map((owner) => ({ owner, extra: '' }));
  const seen = new Set<string>();
  for (let next = queue.pop(); next; next = queue.pop()) {
    const { owner, extra } = next;
    if (seen.has(`${owner.path} ${extra}`)) continue;
    seen.add(`${owner.path} ${extra}`);
    for (const requirement of requirementsOf(owner)) {
      if (!applies(requirement, extra, markers)) continue;
      const needed = byName.get(requirement.name);
      if (needed) queue.push(...requirement.extras.map((each) => ({ owner: needed, extra: each })));
      const installed = versions.get(requirement.name);
      const key = `${owner.name} ${requirement.name}`;
      if (installed && installed.some((version) => suits(requirement, version))) continue;
      if (!found.has(key)) found.set(key, { owner, requirement, installed: installed?.[0] ?? null });
    }
  }
  return found;
}

/** What can't be parsed (old metadata), pip does not judge either. */
function requirementsOf({ requires }: DistributionFacts): Requirement[] {
  return requires.map(parseRequirement).filter((each) => each !== null);
}

function applies({ marker }: Requirement, extra: string, markers: MarkerEnvironment | null): boolean {
  // Without a marker it belongs to the distribution itself, whose turn is the one without an extra.
  if (!marker) return extra === '';
  return evaluateMarker(marker, { ...markers, extra }) === true;
}

/** A version that is not known (an egg-link), or is none by today's rules, is taken to be right. */
function suits({ specifiers }: Requirement, version: string): boolean {
  return parseVersion(version) === null || allows(specifiers, version);
}
