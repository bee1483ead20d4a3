/** Scripts whose store is on a disk of its own, `$WORK/disk`, which only they see. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { SITESWAP } from './built.js';
import { MountedSite, notRun } from './mounted-site.js';
import { inNamespace, namespaceProblem } from './private-namespace.js';

const SITESWAP_FUNCTION = `siteswap() { ${SITESWAP.map((word) => `'${word}'`).join(' ')} "$@"; }`;

/** What the script prints; `prelude` mounts the disk. Null: not run here, which was told. */
export async function onStoreDisk(t: TestContext, prelude: string, script: string): Promise<string[] | null> {
  const problem = namespaceProblem();
  if (problem !== null) {
    notRun(t, problem);
    return null;
  }
  const site = MountedSite.make(t);
  mkdirSync(join(site.work, 'disk'));
  const env = { DIR: site.dir, STORE: join(site.work, 'disk', 'store') };
  const { code, stdout, stderr } = await inNamespace(site.work, SITESWAP_FUNCTION + prelude + script, env);
  assert.equal(code, 0, stdout + stderr);
  site.assertLowerUntouched();
  return stdout.trimEnd().split('\n');
}
