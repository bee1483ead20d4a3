/**
 * Runs a shell script in a mount namespace of its own, where the host's devices can be replaced without touching the
 * host: for tests of users who are not root, and of hosts that lack something. Needs root, as `unshare --mount` does.
 */
import { accessSync, constants } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { runProgram, type RunResult } from './venv.js';

export const ORDINARY_UID = 65534;
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TIMEOUT_MS = 5 * 60_000;

/**
 * A mount ends with its last copy, and a new namespace has one of each: those of tests beside this one (not below $WORK)
 * must not wait for it.
 */
export const DETACH_OTHERS = `
grep ' - fuse\\.siteswap ' /proc/self/mountinfo | while read -r _ _ _ _ at _; do
  at=$(printf %b "$at")
  case $at in "$WORK"/*) ;; *) umount -l "$at" || true ;; esac
done
`;

/** What scripts begin with. `device MODE` puts a /dev/fuse of that mode in the place of the host's. */
const PRELUDE = `set -eu
${DETACH_OTHERS}
mkdir -p -m 1777 "$WORK/home"
device() {
  mknod -m "$1" "$WORK/fuse-device" c 10 229
  mount --bind "$WORK/fuse-device" /dev/fuse
}
ordinary() {
  setpriv --reuid ${ORDINARY_UID} --regid ${ORDINARY_UID} --clear-groups -- \\
    env -u SITESWAP_TRANSACTION HOME="$WORK/home" TMPDIR="$WORK/home" "$@"
}
`;

/** Null when it can be done here. */
export function namespaceProblem(): string | null {
  return process.geteuid?.() === 0 ? null : 'it needs root, for a mount namespace of its own';
}

/** An ordinary user must be able to read what is built and to run node. */
export async function ordinaryUserProblem(work: string): Promise<string | null> {
  const problem = namespaceProblem();
  if (problem !== null) return problem;
  const { code } = await inNamespace(work, `ordinary "$NODE" -e 'fs.readdirSync(process.argv[1])' "$ROOT/dist"`);
  return code === 0 ? null : `uid ${ORDINARY_UID} can't run ${process.execPath} or read ${ROOT}`;
}

export function inNamespace(work: string, script: string, env: NodeJS.ProcessEnv = {}): Promise<RunResult> {
  const variables = { ...process.env, DEBUG: '', NO_COLOR: '1', FORCE_COLOR: undefined, ...env };
  return runProgram('unshare', ['--mount', '--propagation', 'private', 'bash', '-c', PRELUDE + script], {
    cwd: ROOT,
    timeoutMs: TIMEOUT_MS,
    env: { ...variables, WORK: work, ROOT, NODE: process.execPath },
  });
}

/** A Python that the ordinary user may run: root's own may lie in root's home. */
export async function ordinaryPython(work: string): Promise<string | null> {
  for (const python of ['/usr/bin/python3', '/usr/local/bin/python3']) {
    try {
      accessSync(python, constants.X_OK);
    } catch {
      continue;
    }
    const { code } = await inNamespace(work, `ordinary ${python} -c 'import venv, ensurepip'`);
    if (code === 0) return python;
  }
  return null;
}
