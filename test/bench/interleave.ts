/**
 * Sets the subjects up, and runs each work on all of them in turn: A B C, B C A, … What disturbs the machine for a while
 * then disturbs all of them, and a ratio means more than the times that it is made of.
 */
import { linkSync, mkdirSync, readdirSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { systemCode } from '../../src/util/errors.js';
import { run } from './program.js';
import { BIG_FILE, type Materials } from './stack.js';
import { difference, rotated } from './statistics.js';
import type { Place, Subject } from './subject.js';
import { cpuSeconds, serversOf } from './servers.js';
import type { Sample, Site, Work } from './works.js';

export interface Measured extends Sample {
  work: string;
  subject: string;
  round: number;
  /** By opcode; null when the subject does not count. */
  requests: Record<string, number> | null;
  load: number;
  /** Of the subject's server meanwhile; 0 when it has none. */
  serverCpu: number;
}

export interface Failure {
  work: string;
  subject: string;
  message: string;
}

/** The subject's own environment with its own copy of the tree, mounted. */
export async function setUp(subject: Subject, work: string, materials: Materials, withBigFile: boolean): Promise<Site> {
  const home = join(work, subject.name);
  const prefix = join(home, 'venv');
  mkdirSync(home, { recursive: true });
  await run([materials.interpreter, '-m', 'venv', '--without-pip', prefix]);
  const library = readdirSync(join(prefix, 'lib')).find((name) => name.startsWith('python'))!;
  const place: Place = { home, site: join(prefix, 'lib', library, 'site-packages') };
  const tree = subject.tree(place);
  mkdirSync(tree, { recursive: true });
  await run(['cp', '-a', `${materials.stack.path}/.`, tree]);
  if (withBigFile) await placeBigFile(materials.bigFile, join(tree, BIG_FILE));
  await subject.mount(place);
  const env = cleanEnvironment(prefix, join(work, 'home'));
  return { subject, place, materials, python: join(prefix, 'bin/python'), env };
}

/** The same blocks for all subjects where that can be: how a file lies on the disk makes more difference than who reads it. */
async function placeBigFile(from: string, to: string): Promise<void> {
  try {
    linkSync(from, to);
  } catch (error) {
    if (systemCode(error) !== 'EXDEV') throw error;
    await run(['cp', from, to]);
  }
}

/** Nothing of the user's configuration; caches of the packages themselves outside of the tree, the same for all subjects. */
function cleanEnvironment(prefix: string, home: string): NodeJS.ProcessEnv {
  return {
    PATH: `${prefix}/bin:${process.env['PATH'] ?? ''}`,
    LANG: 'C.UTF-8',
    HOME: home,
    MPLCONFIGDIR: join(home, 'matplotlib'),
    VIRTUAL_ENV: prefix,
    PIP_CONFIG_FILE: '/dev/null',
    PIP_DISABLE_PIP_VERSION_CHECK: '1',
    PIP_ROOT_USER_ACTION: 'ignore',
    // One machine's libraries start a thread for each CPU when they are imported; that is not what is measured.
    OPENBLAS_NUM_THREADS: '1',
    OMP_NUM_THREADS: '1',
  };
}

export async function tearDown({ subject, place }: Site): Promise<void> {
  await subject.unmount(place);
}

export interface MeasureOptions {
  rounds: number;
  say: (text: string) => void;
  stopping: () => boolean;
  /** After each work: all samples so far. */
  onProgress: (samples: readonly Measured[]) => void;
}

export async function measure(
  works: readonly Work[],
  sites: readonly Site[],
  { rounds, say, stopping, onProgress }: MeasureOptions,
): Promise<{ samples: Measured[]; failures: Failure[] }> {
  const samples: Measured[] = [];
  const failures: Failure[] = [];
  for (const work of works) {
    if (stopping()) break;
    const able = new Set(sites);
    say(work.title);
    const attempt = async (site: Site, round: number): Promise<void> => {
      if (!able.has(site) || stopping()) return;
      try {
        const sample = await once(work, site, round);
        if (round >= 0) samples.push(sample);
      } catch (error) {
        able.delete(site);
        const { message } = error as Error;
        failures.push({ work: work.name, subject: site.subject.name, message });
        say(`FAILED on ${site.subject.name}: ${message}`);
      }
    };
    for (const site of sites) {
      for (let count = work.warmUps; count > 0; --count) await attempt(site, -count);
    }
    for (let round = 0; round < Math.min(rounds, work.mostRounds ?? rounds); ++round) {
      for (const site of rotated(sites, round)) await attempt(site, round);
    }
    onProgress(samples);
  }
  return { samples, failures };
}

async function once(work: Work, site: Site, round: number): Promise<Measured> {
  const { subject, place } = site;
  await work.before?.(site);
  const before = await subject.requests(place);
  const servers = serversOf(place.site);
  const cpuBefore = cpuSeconds(servers);
  const sample = await work.run(site, round);
  const serverCpu = cpuSeconds(servers) - cpuBefore;
  const after = await subject.requests(place);
  await work.after?.(site);
  return {
    ...sample,
    work: work.name,
    subject: subject.name,
    round,
    requests: before && after ? difference(before, after) : null,
    load: loadavg()[0]!,
    serverCpu,
  };
}
