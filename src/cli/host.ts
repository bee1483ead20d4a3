/**
 * What the host has of what siteswap needs, for `doctor` and for the messages of `mount`. Reads and probes, changes
 * nothing, mounts nothing.
 */
import { spawnSync } from 'node:child_process';
import { accessSync, closeSync, constants, openSync, readFileSync, statSync } from 'node:fs';
import { release } from 'node:os';
import { delimiter, join } from 'node:path';
import { FEATURES, type Feature, type NativeBinding } from '../native/binding.js';
import { loadBinding } from '../native/load.js';
import { describe, SiteswapError, systemCode } from '../util/errors.js';

export const FUSE_DEVICE = '/dev/fuse';
/** Character device 10:229, on every Linux. */
const FUSE_RDEV = (10 << 8) | 229;
const OLDEST_KERNEL = '5.10';

export interface Check {
  name: string;
  ok: boolean;
  /** A mount is impossible without it. */
  required: boolean;
  detail: string;
  hint?: string;
}

export interface FeatureReport {
  name: Feature;
  available: boolean;
  gives: string;
  /** What is done on a host that lacks it. */
  otherwise: string;
}

const FEATURE_TABLE: Record<Feature, { since: string; gives: string; otherwise: string }> = {
  epoch: {
    since: '6.16',
    gives: 'names of the root stay cached between swaps',
    otherwise: 'each walk through the root asks the server',
  },
  'no-open': {
    since: '5.10',
    gives: 'opening and closing files costs no request',
    otherwise: 'one request for each open and each close',
  },
  resend: {
    since: '6.9',
    gives: 'a new server can ask for the unanswered requests again',
    otherwise: 'requests in flight are lost with a server that dies',
  },
  'pidfd-info': {
    since: '6.15',
    gives: 'the exit status of an installer is known',
    otherwise: 'it is learnt by exit-events',
  },
  'exit-events': {
    since: '5.10',
    gives: 'the exit status of an installer is known where pidfd-info is not (root, or Linux 6.6; no container)',
    otherwise: 'without pidfd-info too, the result of an installer is judged by verification alone',
  },
  readdirplus: {
    since: '5.10',
    gives: 'a listing brings the attributes along',
    otherwise: 'one request for the attributes of each name',
  },
};

/** '6.18.44-foo' against '6.9': numbers, not text. */
export function kernelAtLeast(kernel: string, wanted: string): boolean {
  const [major = 0, minor = 0] = kernel.split('.').map((part) => parseInt(part, 10));
  const [wantedMajor = 0, wantedMinor = 0] = wanted.split('.').map(Number);
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
}

export function findInPath(program: string, path = process.env['PATH'] ?? ''): string | null {
  for (const directory of path.split(delimiter)) {
    const candidate = join(directory, program);
    try {
      accessSync(candidate, constants.X_OK);
      if (statSync(candidate).isFile()) return candidate;
    } catch {
      // Not here: the next one.
    }
  }
  return null;
}

/** Null when it can be opened. */
export function deviceProblem(): SiteswapError | null {
  try {
    // A container may have put something else in its place, such as /dev/null.
    const { rdev } = statSync(FUSE_DEVICE);
    if (rdev !== FUSE_RDEV) throw new Error(`its device number is ${rdev}`);
    closeSync(openSync(FUSE_DEVICE, 'r+'));
    return null;
  } catch (error) {
    const denied = systemCode(error) === 'EACCES' || systemCode(error) === 'EPERM';
    return new SiteswapError(
      denied ? 'NO_RIGHTS' : 'HOST_REQUIREMENT',
      denied ? `${FUSE_DEVICE} can't be opened: ${describe(error)}` : `there is no usable ${FUSE_DEVICE}`,
      denied
        ? 'Run as root, or get rights to the device; in a container start it with --device /dev/fuse.'
        : 'Load the module (`modprobe fuse`); in a container start it with --device /dev/fuse.',
      { cause: error },
    );
  }
}

function binding(): { loaded: NativeBinding | null; check: Check } {
  const base = { name: 'addon', required: true };
  try {
    return { loaded: loadBinding(), check: { ...base, ok: true, detail: 'loads' } };
  } catch (error) {
    const help = error instanceof SiteswapError && error.hint ? { hint: error.hint } : {};
    return { loaded: null, check: { ...base, ok: false, detail: describe(error), ...help } };
  }
}

function kernelCheck(kernel: string): Check {
  const ok = process.platform === 'linux' && kernelAtLeast(kernel, OLDEST_KERNEL);
  const detail = `${process.platform} ${kernel}`;
  return { name: 'kernel', ok, required: true, detail, hint: `Linux ${OLDEST_KERNEL} or newer; 6.16 for the best.` };
}

function deviceCheck(): Check {
  const problem = deviceProblem();
  const base = { name: FUSE_DEVICE, required: true };
  if (problem === null) return { ...base, ok: true, detail: 'can be opened' };
  return { ...base, ok: false, detail: problem.message, hint: problem.hint! };
}

function fusermountCheck(isRoot: boolean): Check {
  const path = findInPath('fusermount3');
  const detail = path ?? `not found${isRoot ? ' (root does not need it)' : ''}`;
  const hint = 'Install the package fuse3: users who are not root mount through it.';
  return { name: 'fusermount3', ok: path !== null, required: !isRoot, detail, hint };
}

/** fuse.conf(5): a line of its own, comments start with #. */
export function allowsOther(fuseConf: string): boolean {
  return fuseConf.split('\n').some((line) => line.trim() === 'user_allow_other');
}

function allowOtherCheck(isRoot: boolean): Check {
  let ok = isRoot;
  try {
    ok ||= allowsOther(readFileSync('/etc/fuse.conf', 'utf8'));
  } catch {
    // No such file: the same as one without the line.
  }
  return {
    name: 'user_allow_other',
    ok,
    required: false,
    detail: isRoot ? 'root does not need it' : ok ? 'set in /etc/fuse.conf' : 'not set: only you can see your mounts',
    hint: 'Write the line user_allow_other to /etc/fuse.conf if other users shall see what you mount.',
  };
}

function pythonCheck(): Check {
  const path = findInPath('python3') ?? findInPath('python');
  const base = { name: 'python', required: false, hint: 'Without Python in PATH, DIR must always be given.' };
  if (path === null) return { ...base, ok: false, detail: 'not found' };
  const { stdout, stderr } = spawnSync(path, ['--version'], { encoding: 'utf8', timeout: 10_000 });
  return { ...base, ok: true, detail: `${path}: ${(stdout || stderr || '').trim()}` };
}

export interface HostReport {
  usable: boolean;
  checks: Check[];
  features: FeatureReport[];
}

export function examineHost(): HostReport {
  const kernel = release();
  const isRoot = process.geteuid?.() === 0;
  const { loaded, check } = binding();
  const checks = [
    kernelCheck(kernel),
    { name: 'node', ok: true, required: true, detail: process.version },
    check,
    deviceCheck(),
    fusermountCheck(isRoot),
    allowOtherCheck(isRoot),
    pythonCheck(),
  ];
  const disabled = new Set((process.env['SITESWAP_DISABLE'] ?? '').split(','));
  const probes: Partial<Record<Feature, () => boolean>> = loaded
    ? { 'pidfd-info': () => loaded.hasPidfdInfo(), 'exit-events': () => loaded.hasExitEvents() }
    : {};
  const features = FEATURES.map((name): FeatureReport => {
    const { since, gives, otherwise } = FEATURE_TABLE[name];
    const inKernel = probes[name]?.() ?? kernelAtLeast(kernel, since);
    return { name, available: inKernel && !disabled.has(name), gives, otherwise };
  });
  return { usable: checks.every(({ ok, required }) => ok || !required), checks, features };
}
