/**
 * The checks have nothing to say about clean installs of real packages: of popular ones, and of what these need. In a
 * plain environment, without a mount: the checks do not know the difference. Without a package index skipped, by name.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { verify } from '../../src/python/verify.js';
import { installedAtOnce } from '../helpers/directory-tree.js';
import { installWheels } from '../helpers/package-index.js';
import { makeVenv } from '../helpers/venv.js';

const TIMEOUT_MS = 10 * 60_000;
// Those that are odd in some way are among them: namespaces, a package of one file, compiled ones, `.pth` files, own copies
// of others, dots and capitals in names, metadata only.
const PACKAGES = `aiohttp attrs black boto3 cffi click cryptography django fastapi flask google-auth httpx jinja2 lxml
  mypy-extensions numpy opentelemetry-api packaging pandas pillow protobuf pydantic pytest pyyaml requests rich setuptools
  six sqlalchemy types-requests wheel zope.interface`.split(/\s+/);

const MARKERS = `
import json, os, platform, sys
info = sys.implementation.version
version = '.'.join(map(str, info[:3])) + ('' if info.releaselevel == 'final' else info.releaselevel[0] + str(info.serial))
print(json.dumps({'implementation_name': sys.implementation.name, 'implementation_version': version, 'os_name': os.name,
  'platform_machine': platform.machine(), 'platform_release': platform.release(), 'platform_system': platform.system(),
  'platform_version': platform.version(), 'python_full_version': platform.python_version(),
  'platform_python_implementation': platform.python_implementation(), 'sys_platform': sys.platform,
  'python_version': '.'.join(platform.python_version_tuple()[:2])}))
`;

function workFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'siteswap-index-checks-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test('thirty popular packages and what they need: nothing to find', { timeout: TIMEOUT_MS }, async (t) => {
  assert.ok(PACKAGES.length >= 30);
  const venv = makeVenv(join(workFolder(t), 'venv'));
  if (!(await installWheels(venv.python, PACKAGES))) return t.skip('skipped: no package index');
  const asked = await venv.run('python', ['-c', MARKERS]);
  const markers = JSON.parse(asked.stdout) as Record<string, string>;
  const { findings, packages, checks } = await verify(installedAtOnce(venv.sitePackages, markers));
  assert.deepEqual(
    findings.map(({ message }) => message),
    [],
  );
  assert.ok(packages.length > PACKAGES.length, 'all of them were looked at');
  t.diagnostic(checks.map(({ name, durationMs }) => `${name} ${Math.round(durationMs)} ms`).join(', '));
});
