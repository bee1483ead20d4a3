/** In a container the shell that installs, or the installer itself, may be process 1. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { ROOT, SITESWAP } from '../helpers/built.js';
import { needsFuse, notRun } from '../helpers/mounted-site.js';
import { DETACH_OTHERS, namespaceProblem } from '../helpers/private-namespace.js';
import { runProgram } from '../helpers/venv.js';

const TIMEOUT_MS = 2 * 60_000;
const CONTAINER = ['--mount', '--propagation', 'private', '--pid', '--fork', '--mount-proc'];

/** Its standard output. Mount and daemons end with their namespaces. */
async function asFirstProcess(t: TestContext, script: string): Promise<string> {
  const work = mkdtempSync(join(tmpdir(), 'siteswap-first-process-'));
  t.after(() => rmSync(work, { recursive: true, force: true }));
  mkdirSync(join(work, 'site-packages'));
  const setup = `${DETACH_OTHERS}
cd "$WORK"
siteswap() { ${SITESWAP.map((word) => `'${word}'`).join(' ')} "$@" site-packages; }
siteswap mount --verify none
generations() { siteswap log --json | grep -c '"generation":'; }
`;
  const { code, stdout, stderr } = await runProgram('unshare', [...CONTAINER, 'bash', '-ec', setup + script], {
    cwd: ROOT,
    timeoutMs: TIMEOUT_MS,
    env: { ...process.env, WORK: work },
  });
  assert.equal(code, 0, stdout + stderr);
  return stdout;
}

function firstProcessTest(name: string, body: (t: TestContext) => Promise<void>): void {
  test(name, { ...needsFuse, timeout: TIMEOUT_MS }, async (t) => {
    const problem = namespaceProblem();
    if (problem !== null) return notRun(t, problem);
    await body(t);
  });
}

firstProcessTest('what it began has its children in it', async (t) => {
  const script = `
siteswap begin >begun
sh -c 'echo 1 >site-packages/by-child'
echo 2 >site-packages/by-itself
echo $$ $(cat site-packages/by-child site-packages/by-itself) $(generations)
siteswap commit >/dev/null
echo $(cat site-packages/by-child site-packages/by-itself) $(generations)
siteswap unmount`;
  assert.equal(await asFirstProcess(t, script), '1 1 2 1\n1 2 2\n');
});

firstProcessTest('it waits for what its child has installed', async (t) => {
  const script = `
read -r first <site-packages/nothing || true
cat >pip <<'END'
#!/bin/bash
echo 3 >site-packages/installed
END
chmod +x pip
bash ./pip
read -r line <site-packages/installed
echo "$$ $line"
siteswap unmount`;
  assert.equal(await asFirstProcess(t, script), '1 3\n');
});

firstProcessTest('as an installer it has its children in its transaction', async (t) => {
  const script = `
cat >pip <<'END'
#!/bin/bash
sh -c 'echo 4 >site-packages/by-child'
echo 5 >site-packages/by-itself
echo $$ $(cat site-packages/by-child site-packages/by-itself) $("$@")
END
count() { generations; }
export -f siteswap generations
exec -a pip bash ./pip bash -c generations`;
  assert.equal(await asFirstProcess(t, script), '1 4 5 1\n');
});
