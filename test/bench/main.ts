/**
 * `npm run bench`: the same work on a plain directory, on siteswap and on the filesystems that people use instead, side by
 * side in one run; and what siteswap's own operations cost (own-costs.ts). See --help.
 *
 * Its own process never looks into a mount. All that is mounted is unmounted at the end, also after an error or Ctrl-C.
 */
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { gatherFacts, type Facts } from './facts.js';
import { measure, setUp, tearDown, type Failure, type Measured } from './interleave.js';
import { BadOption, HELP, parseOptions, type Options } from './options.js';
import { OWN_COSTS, type OwnCost, type OwnResult } from './own-costs.js';
import { run } from './program.js';
import { makeMaterials, type Materials } from './stack.js';
import { DEBIAN_PACKAGES, SUBJECTS } from './subjects.js';
import type { Subject } from './subject.js';
import { requestsText, rowsOf, table } from './table.js';
import { svg } from './svg.js';
import { WORKS, type Site, type Work } from './works.js';

const TITLES = new Map([...SUBJECTS, ...WORKS, ...OWN_COSTS].map(({ name, title }) => [name, title]));
/** Seconds mean nothing there, or are too few to compare. */
const NOT_DRAWN = new Set(['big-memory', 'misses-new', 'rename']);

/** Ctrl-C and its like: the work under way ends, nothing more is begun, and everything is unmounted. */
let stopping = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => (stopping = true));

const say = (text: string): void => void process.stderr.write(`bench: ${text}\n`);

interface Chosen {
  works: Work[];
  ownCosts: OwnCost[];
  subjects: Subject[];
  missing: string[];
}

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  if (options === 'help') {
    process.stdout.write(`${HELP}\n`);
    return 0;
  }
  if (options.works.includes('list')) {
    for (const { name, title } of [...WORKS, ...OWN_COSTS]) process.stdout.write(`${name.padEnd(18)} ${title}\n`);
    return 0;
  }
  if (options.setup) await installPeers();
  const chosen = choose(options);
  for (const text of chosen.missing) say(`NOT MEASURED: ${text}`);
  const materials = await makeMaterials(options.cache, options.python, options.quick, say);
  const { stack } = materials;
  say(`a ${stack.kind} tree of ${stack.entries} entries, Python ${materials.version}: ${stack.versions.join(' ')}`);
  const work = mkdtempSync(join(realpathSync(options.cache), 'run-'));
  mkdirSync(join(work, 'home'));
  const facts = await gatherFacts(work, materials.version);
  const sites: Site[] = [];
  let outcome: { samples: Measured[]; failures: Failure[] } = { samples: [], failures: [] };
  const own: OwnResult[] = [];
  try {
    const works = usable(chosen.works, materials, chosen.missing);
    if (works.length > 0) {
      const withBigFile = works.some(({ needsBigFile }) => needsBigFile);
      for (const subject of chosen.subjects) {
        if (stopping) break;
        say(`setting up ${subject.name}`);
        sites.push(await setUp(subject, work, materials, withBigFile));
      }
      outcome = await measure(works, sites, {
        rounds: options.rounds,
        say,
        stopping: () => stopping,
        onProgress: (samples) => {
          if (options.json !== null) writeFileSync(options.json, JSON.stringify({ facts, stack, samples }, null, 1));
        },
      });
    }
  } finally {
    for (const site of sites) {
      await tearDown(site).catch((error: Error) => say(`STILL MOUNTED: ${site.place.site}: ${error.message}`));
    }
  }
  for (const cost of chosen.ownCosts) {
    if (stopping) break;
    say(cost.title);
    const found = (result: OwnResult): void => {
      own.push(result);
      say(result.text);
    };
    try {
      const { cache, rounds, quick } = options;
      await cost.run({ work, cache, materials, rounds, quick, found });
    } catch (error) {
      const { message } = error as Error;
      outcome.failures.push({ work: cost.name, subject: 'siteswap', message });
      say(`FAILED: ${message}`);
    }
  }
  removeUnmounted(work);
  await report(options, chosen, materials, facts, outcome, own);
  // What another filesystem can't do is a result: overlayfs renames no directory of its lower one.
  const ours = outcome.failures.filter(({ subject }) => subject === 'plain' || subject === 'siteswap');
  return ours.length === 0 ? 0 : 1;
}

/** Never through a mount that could not be removed. */
function removeUnmounted(directory: string): void {
  if (readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${directory}/`))
    say(`kept, for mounts in it: ${directory}`);
  else rmSync(directory, { recursive: true });
}

async function installPeers(): Promise<void> {
  say(`apt-get install ${DEBIAN_PACKAGES.join(' ')}`);
  await run(['apt-get', 'update', '-q']);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  await run(['apt-get', 'install', '-q', '-y', '--no-install-recommends', ...DEBIAN_PACKAGES], { env });
}

function choose(options: Options): Chosen {
  const known = <T extends { name: string }>(items: readonly T[], names: readonly string[]): T[] =>
    items.filter(({ name }) => names.length === 0 || names.includes(name));
  const unknown = [
    ...options.works.filter((name) => ![...WORKS, ...OWN_COSTS].some((item) => item.name === name)),
    ...options.subjects.filter((name) => !SUBJECTS.some((item) => item.name === name)),
  ];
  if (unknown.length > 0) throw new BadOption(`there is no ${unknown.join(', ')}: --work list names the works`);
  const wanted = options.subjects.length === 0 ? [] : [SUBJECTS[0]!.name, ...options.subjects];
  const missing: string[] = [];
  const subjects = known(SUBJECTS, wanted).filter((subject) => {
    const why = subject.available();
    if (why !== null) missing.push(`${subject.name}: ${why}`);
    return why === null;
  });
  return { works: known(WORKS, options.works), ownCosts: known(OWN_COSTS, options.works), subjects, missing };
}

function usable(works: readonly Work[], materials: Materials, missing: string[]): Work[] {
  return works.filter((work) => {
    const needsRoot = work.needsRoot === true && process.geteuid?.() !== 0;
    const why = needsRoot ? 'only root may drop caches' : (work.available?.(materials) ?? null);
    if (why !== null) {
      missing.push(`${work.title}: ${why}`);
      say(`NOT MEASURED: ${work.title}: ${why}`);
    }
    return why === null;
  });
}

async function report(
  options: Options,
  { subjects, missing }: Chosen,
  { stack }: Materials,
  facts: Facts,
  { samples, failures }: { samples: Measured[]; failures: Failure[] },
  own: OwnResult[],
): Promise<void> {
  const names = subjects.map(({ name }) => name);
  const rows = rowsOf(samples, names);
  const caption = `${facts.cpus} CPUs (${facts.cpu}), Linux ${facts.kernel}, ${facts.filesystem}, Python ${facts.python}, ${stack.entries} entries`;
  const print = (text: string): void => void process.stdout.write(`${text}\n`);
  print(`${caption}; load ${facts.loadBefore.toFixed(1)} before, ${loadavg()[0]!.toFixed(1)} after`);
  if (rows.length > 0) {
    print(`\nMedians of the plain directory, and ratios to them; in brackets quartiles (below 5 rounds: extremes)\n`);
    print(table(rows, names, TITLES));
    print('\nThe same in CPU seconds, of the work and of what serves it: changed less by other load on the machine\n');
    const cpu = samples.map((sample) => ({ ...sample, seconds: sample.cpu + sample.serverCpu }));
    print(table(rowsOf(cpu, names), names, TITLES));
    print('\nRequests that siteswap got in one repetition (the last one)\n');
    for (const { work } of rows) {
      const last = samples.findLast((sample) => sample.work === work && sample.requests !== null);
      if (last?.requests) print(`${TITLES.get(work)}: ${requestsText(last.requests)}`);
    }
  }
  if (own.length > 0) print('\nsiteswap’s own operations\n');
  for (const { name, text } of own) print(`${TITLES.get(name)}: ${text}`);
  for (const text of missing) print(`not measured: ${text}`);
  for (const { work, subject, message } of failures) print(`failed: ${TITLES.get(work)} on ${subject}: ${message}`);
  if (options.json !== null) {
    const versions = Object.fromEntries(
      await Promise.all(subjects.map(async (item) => [item.name, { version: await item.version(), how: item.how }])),
    ) as Record<string, { version: string; how: string }>;
    writeFileSync(
      options.json,
      JSON.stringify({ facts, stack, subjects: versions, samples, own, missing, failures }, null, 1),
    );
  }
  if (options.svg !== null) {
    const drawn = rows.filter(({ work }) => !NOT_DRAWN.has(work));
    writeFileSync(options.svg, svg({ rows: drawn, subjects: names, titles: TITLES, caption }));
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof BadOption)) throw error;
  process.stderr.write(`error: ${error.message}\nhint: npm run bench -- --help\n`);
  process.exitCode = 2;
}
