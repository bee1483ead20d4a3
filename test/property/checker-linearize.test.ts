/** test/checker/linearize against an oracle that tries out every placing of the commits in time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { linearize, type Commit, type Read } from '../checker/linearize.js';

/** Times of events are distinct even numbers: the fractions behind each are where commits may lie. */
const MOST_COMMITS = 3;

interface Case {
  commits: Commit[];
  reads: Read[];
}

const cases: fc.Arbitrary<Case> = fc
  .record({ commits: fc.integer({ min: 0, max: MOST_COMMITS }), reads: fc.integer({ min: 1, max: 4 }) })
  .chain(({ commits, reads }) => {
    const events = 2 * (commits + reads);
    const times = fc.shuffledSubarray(
      Array.from({ length: events }, (_, n) => n),
      { minLength: events },
    );
    const states = Array.from({ length: commits + 1 }, (_, n) => n);
    const allowed = fc.array(fc.subarray(states, { minLength: 1 }), { minLength: reads, maxLength: reads });
    return fc.record({ times, allowed }).map(({ times, allowed }) => {
      const pairs = Array.from({ length: commits + reads }, (_, n) => [times[2 * n]!, times[2 * n + 1]!]);
      const sorted = pairs.map(([a, b]) => [Math.min(a!, b!), Math.max(a!, b!)] as const);
      return {
        commits: sorted.slice(0, commits).map(([notBefore, visibleFrom]) => ({ notBefore, visibleFrom })),
        reads: sorted
          .slice(commits)
          .map(([begin, end], n) => ({ begin, end, allowed: allowed[n]!.map((state) => [state, state] as const) })),
      };
    });
  });

/** Every rising choice of times, several between each two events. */
function* placings(count: number, events: number, from = -1): Generator<number[]> {
  if (count === 0) return yield [];
  const slots = MOST_COMMITS + 1;
  for (let slot = 0; slot < (events + 1) * (slots - 1); slot++) {
    const time = -1 + Math.floor(slot / (slots - 1)) + (1 + (slot % (slots - 1))) / slots;
    if (time <= from) continue;
    for (const rest of placings(count - 1, events, time)) yield [time, ...rest];
  }
}

function isFine({ commits, reads }: Case): boolean {
  const events = 2 * (commits.length + reads.length);
  for (const times of placings(commits.length, events)) {
    if (times.some((time, k) => time < commits[k]!.notBefore)) continue;
    const starts = [-Infinity, ...times, Infinity];
    const fits = reads.every(({ begin, end, allowed }) => {
      const mustSee = commits.reduce((most, { visibleFrom }, k) => (visibleFrom < begin ? k + 1 : most), 0);
      return allowed.some(([state]) => state >= mustSee && starts[state]! <= end && starts[state + 1]! > begin);
    });
    if (fits) return true;
  }
  return false;
}

test('finds a violation exactly when no placing of the commits explains all reads', () => {
  fc.assert(
    fc.property(cases, (each) => {
      assert.equal(linearize(each.commits, each.reads).length === 0, isFine(each));
    }),
    { numRuns: 400 },
  );
});

test('what was recorded from a register that is atomic is fine, however many reads', () => {
  const scenario = fc.record({
    commits: fc.array(fc.nat(1000), { maxLength: 30 }),
    reads: fc.array(fc.record({ at: fc.nat(1000), before: fc.nat(50), after: fc.nat(50) }), { maxLength: 200 }),
    slack: fc.nat(40),
  });
  fc.assert(
    fc.property(scenario, ({ commits: unsorted, reads, slack }) => {
      const times = unsorted.sort((a, b) => a - b);
      const commits = times.map((time) => ({ notBefore: time - slack, visibleFrom: time + slack }));
      const history = reads.map(({ at, before, after }): Read => {
        const state = times.filter((time) => time <= at).length;
        return { begin: at - before, end: at + after, allowed: [[state, state]] };
      });
      assert.deepEqual(linearize(commits, history), []);
    }),
  );
});

test('one read that is moved to a state long gone is found', () => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 20 }), fc.nat(), (count, choice) => {
      const commits = Array.from({ length: count }, (_, k) => ({ notBefore: 100 * k, visibleFrom: 100 * k + 50 }));
      const reads = commits.map((_, k): Read => {
        const begin = 100 * k + 60;
        return { begin, end: begin + 10, allowed: [[k + 1, k + 1]] };
      });
      const bad = 1 + (choice % (count - 1));
      reads[bad] = { ...reads[bad]!, allowed: [[bad, bad]] };
      const found = linearize(commits, reads);
      assert.deepEqual(
        found.map(({ kind, read }) => ({ kind, read })),
        [{ kind: 'stale', read: bad }],
      );
    }),
  );
});
