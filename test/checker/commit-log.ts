/**
 * From what the installers did to the sequence of states that readers may see. Pure.
 *
 * On a siteswap mount the log of generations says what was committed and in which order, over all distributions: one
 * domain. Elsewhere an install that exited with 0 counts as one commit between its start and its end, and only the order
 * on each distribution is known: a domain for each. An install that was killed or failed must not have any effect.
 */
import type { History, Operation, Outcome, Value } from './history.js';
import type { Commit } from './linearize.js';

export interface Domain {
  distributions: readonly string[];
  /** One more than commits: the first is the empty directory. */
  states: ReadonlyMap<string, Value>[];
  commits: Commit[];
  /** The state that an operation began. */
  stateOf: Map<number, number>;
  /** Installs that overlap on one distribution, in no known order: only what one read saw is judged. */
  ordered: boolean;
}

export interface LoggedGeneration {
  generation: number;
  reason: string;
  command: readonly string[];
  packages: readonly { name: string; from: Value; to: Value }[];
}

export interface Replay {
  domains: Domain[];
  committed: number;
  aborted: number;
  refused: number;
  /** What the log itself says that can't be. */
  problems: string[];
}

const NEVER = Number.MAX_SAFE_INTEGER;

function begin(distributions: readonly string[]): Domain {
  const nothing = new Map<string, Value>(distributions.map((name) => [name, null]));
  return { distributions, states: [nothing], commits: [], stateOf: new Map(), ordered: true };
}

function append(domain: Domain, operation: Operation, commit: Commit): void {
  domain.states.push(new Map(domain.states.at(-1)).set(operation.distribution, operation.value));
  domain.commits.push(commit);
  domain.stateOf.set(operation.id, domain.commits.length);
}

/** Without a log. */
export function replayOutcomes({ distributions, operations, outcomes }: History): Replay {
  const domains = distributions.map((name) => begin([name]));
  const done = outcomes.filter(({ code }) => code === 0).sort((a, b) => a.end - b.end);
  for (const [index, name] of distributions.entries()) {
    const domain = domains[index]!;
    let latest = -Infinity;
    for (const outcome of done) {
      const operation = operations.get(outcome.op)!;
      if (operation.distribution !== name) continue;
      append(domain, operation, { notBefore: outcome.start, visibleFrom: outcome.end });
      if (operation.contended) domain.ordered &&= outcome.start > latest;
      latest = outcome.end;
    }
  }
  return { domains, committed: done.length, aborted: outcomes.length - done.length, refused: 0, problems: [] };
}

/** `generations`: those of this run, oldest first; the directory had nothing of ours before. */
export function replayLog(history: History, generations: readonly LoggedGeneration[]): Replay {
  const { distributions, operations, outcomes } = history;
  const domain = begin(distributions);
  const byOp = new Map(outcomes.map((outcome) => [outcome.op, outcome]));
  const problems: string[] = [];
  const logged = new Set<number>();
  for (const { generation, command, packages, reason } of generations) {
    const id = opOf(command);
    const operation = id === null ? undefined : operations.get(id);
    if (!operation) {
      const about = packages.map(({ name }) => name).join(', ') || 'no package';
      problems.push(`generation ${generation} (${reason}, ${about}) is of no installer: ${command.join(' ')}`);
      continue;
    }
    const outcome = byOp.get(operation.id);
    if (logged.has(operation.id)) problems.push(`operation ${operation.id} was committed twice`);
    logged.add(operation.id);
    if (outcome && outcome.code !== 0) {
      problems.push(`operation ${operation.id} ended with ${how(outcome)} and is generation ${generation}`);
    }
    const change = packages.find(({ name }) => name.replace(/[-.]+/g, '_') === operation.distribution);
    const before = domain.states.at(-1)!.get(operation.distribution)!;
    if (packages.length !== 1 || change?.to !== operation.value || change.from !== before) {
      const is = JSON.stringify(packages);
      problems.push(
        `generation ${generation} should be ${operation.distribution} ${before} → ${operation.value}, is ${is}`,
      );
    }
    append(domain, operation, {
      notBefore: outcome?.lastWrite ?? outcome?.start ?? 0,
      visibleFrom: outcome?.end ?? NEVER,
    });
  }
  const unlogged = outcomes.filter(({ op, code }) => code === 0 && !logged.has(op));
  for (const outcome of unlogged) {
    if (!hasWinner(outcome, history, logged)) {
      const { distribution, value } = operations.get(outcome.op)!;
      problems.push(`operation ${outcome.op} (${distribution} ${value}) exited with 0 and was not committed`);
    }
  }
  return {
    domains: [domain],
    committed: logged.size,
    aborted: outcomes.filter(({ code }) => code !== 0).length,
    refused: unlogged.length,
    problems,
  };
}

/** Only who ran beside a committed installer of the same distribution may lose. */
function hasWinner(loser: Outcome, { operations, outcomes }: History, logged: ReadonlySet<number>): boolean {
  const { contended, distribution } = operations.get(loser.op)!;
  if (!contended) return false;
  return outcomes.some(
    ({ op, start, end }) =>
      op !== loser.op &&
      logged.has(op) &&
      operations.get(op)!.distribution === distribution &&
      start <= loser.end &&
      end >= loser.start,
  );
}

/** As put there by installs.ts. */
export function opOf(command: readonly string[]): number | null {
  const at = command.indexOf('--op');
  const own = at < 0 ? undefined : command[at + 1];
  const found = own ?? command.map((word) => /\/op-(\d+)$/.exec(word)?.[1]).find((number) => number !== undefined);
  return found === undefined ? null : Number(found);
}

export function how({ code, signal }: Pick<Outcome, 'code' | 'signal'>): string {
  return signal === null ? `exit code ${code}` : `signal ${signal}`;
}
