/** A user who is not root mounts over his own environment through fusermount3, installs with plain pip, and unmounts. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { findInPath } from '../../src/cli/host.js';
import { notRun, SITESWAP } from '../helpers/mounted-site.js';
import { inNamespace, ordinaryPython, ordinaryUserProblem } from '../helpers/private-namespace.js';
import { buildWheel } from '../helpers/wheel.js';

const SCRIPT = `
device 0666
PATH=$(dirname "$PYTHON"):$PATH
ordinary "$PYTHON" -m venv "$WORK/home/venv"
site=$(ordinary "$WORK/home/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
tree() { (cd "$site" && find . -printf '%P %m %U %G %T@ %i %l\\n' -type f -exec sha256sum {} + | sort); }
pip() { ordinary timeout 100 "$WORK/home/venv/bin/python" -m pip --no-cache-dir "$@"; }
version() { ordinary timeout 100 "$WORK/home/venv/bin/python" -c 'import demo; print(demo.VERSION)'; }

tree >"$WORK/before"
echo "mount: $(ordinary $SITESWAP mount "$site" 2>&1)"
pip install -q --no-index "$WORK/demo-1.0-py3-none-any.whl"
echo "version: $(version)"
pip install -q --no-index --upgrade "$WORK/demo-2.0-py3-none-any.whl"
echo "version: $(version)"
echo "owner: $(ordinary timeout 100 stat -c %u:%g "$site/demo/__init__.py")"
ordinary $SITESWAP log "$site" --json >"$WORK/home/log.json"
echo "unmount: $(ordinary $SITESWAP unmount "$site" 2>&1)"
grep -c "$site" /proc/self/mountinfo || true
tree >"$WORK/after"
echo "mount again: $(ordinary $SITESWAP mount "$site" 2>&1)"
echo "version: $(version)"
kill -KILL "$(ordinary $SITESWAP status "$site" --json | "$NODE" -p 'JSON.parse(fs.readFileSync(0, "utf8")).serverPid')"
ordinary timeout 100 ls "$site" >/dev/null 2>&1 || echo "dead: $?"
echo "unmount: $(ordinary $SITESWAP unmount --force --purge "$site" 2>&1 | grep -v ^warning:)"
ls -A "$(dirname "$site")"
`;

test('an ordinary user: mount, pip install, upgrade, unmount, mount again', async (t) => {
  const work = realpathSync(mkdtempSync(join(tmpdir(), 'siteswap-ordinary-')));
  t.after(() => rmSync(work, { recursive: true, force: true }));
  chmodSync(work, 0o755);
  const python = (await ordinaryUserProblem(work)) === null ? await ordinaryPython(work) : null;
  const problem =
    (await ordinaryUserProblem(work)) ??
    (python === null ? 'there is no Python with venv that an ordinary user may run' : null) ??
    (findInPath('fusermount3') === null ? 'there is no fusermount3' : null);
  if (problem !== null) return notRun(t, problem);

  for (const version of ['1.0', '2.0']) {
    const files = { 'demo/__init__.py': `VERSION = '${version}'\n` };
    chmodSync(buildWheel({ name: 'demo', version, files, dir: work }), 0o644);
  }
  // As it would be started where nothing has a blank in its path.
  assert.ok(SITESWAP.every((word) => !word.includes(' ')));
  const { code, stdout, stderr } = await inNamespace(work, SCRIPT, { PYTHON: python!, SITESWAP: SITESWAP.join(' ') });
  assert.equal(code, 0, stdout + stderr);
  const lines = stdout.split('\n');
  const site = lines[0]!.replace(/^mount: mounted over /, '');
  assert.deepEqual(lines, [
    `mount: mounted over ${site}`,
    'version: 1.0',
    'version: 2.0',
    'owner: 65534:65534',
    `unmount: unmounted ${site}`,
    '0',
    `mount again: mounted over ${site}`,
    'version: 2.0',
    'dead: 2',
    `unmount: unmounted ${site}`,
    `deleted the store ${join(site, '..', '.site-packages.siteswap')}`,
    'site-packages',
    '',
  ]);
  assert.equal(readFileSync(join(work, 'after'), 'utf8'), readFileSync(join(work, 'before'), 'utf8'));
  const { generations } = JSON.parse(readFileSync(join(work, 'home/log.json'), 'utf8')) as {
    generations: { uid: number; packages: unknown[] }[];
  };
  assert.deepEqual(
    generations.map(({ uid, packages }) => ({ uid, packages })),
    [
      { uid: 65534, packages: [{ name: 'demo', from: '1.0', to: '2.0' }] },
      { uid: 65534, packages: [{ name: 'demo', from: null, to: '1.0' }] },
      { uid: null, packages: [] },
    ],
  );
});
