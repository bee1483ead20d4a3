import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { execFileSync } from 'node:child_process';
import {
  defaultSitePackages,
  parsePyvenvCfg,
  parseSitePackagesPath,
  readEnvironment,
} from '../../src/python/environment.js';
import { SiteswapError } from '../../src/util/errors.js';

const folder = realpathSync(mkdtempSync(join(tmpdir(), 'siteswap-environment-')));
after(() => rmSync(folder, { recursive: true }));

test('pyvenv.cfg', () => {
  const values = parsePyvenvCfg('home = /usr/bin\ninclude-system-site-packages=false\nVersion = 3.11 = x\n\nnoise\n');
  assert.deepEqual(
    [...values],
    [
      ['home', '/usr/bin'],
      ['include-system-site-packages', 'false'],
      ['version', '3.11 = x'],
    ],
  );
});

test('paths of site-packages', () => {
  const cases = {
    '/v/lib/python3.11/site-packages': { prefix: '/v', version: '3.11', kind: 'site' },
    '/v/lib64/python3.13t/site-packages/': { prefix: '/v', version: '3.13', kind: 'site' },
    '/usr/lib/python3/dist-packages': { prefix: '/usr', version: null, kind: 'debian' },
    '/usr/local/lib/python3.11/dist-packages': { prefix: '/usr', version: '3.11', kind: 'debian' },
    '/v/site-packages': null,
    '/v': null,
  };
  for (const [path, expected] of Object.entries(cases)) assert.deepEqual(parseSitePackagesPath(path), expected, path);
});

test('a virtual environment, by its site-packages, by its prefix, and as the active one', async () => {
  const prefix = join(folder, 'venv');
  execFileSync('python3', ['-m', 'venv', '--without-pip', prefix]);
  const purelib = await defaultSitePackages({ ...process.env, VIRTUAL_ENV: prefix });
  assert.ok(purelib.startsWith(`${prefix}/lib/python3`), purelib);
  for (const path of [purelib, prefix]) {
    const found = await readEnvironment(path);
    assert.equal(found?.kind, 'venv');
    assert.equal(found?.prefix, prefix);
    assert.ok(found?.interpreter.startsWith(`${prefix}/bin/python`));
  }
});

test('a directory that belongs to no interpreter', async () => {
  mkdirSync(join(folder, 'empty/bin'), { recursive: true });
  writeFileSync(join(folder, 'empty/bin/python3'), 'not executable');
  assert.equal(await readEnvironment(join(folder, 'empty')), null);
});

test('no environment to be found is an error that says what to do', async () => {
  for (const environment of [{ VIRTUAL_ENV: join(folder, 'missing') }, { PATH: join(folder, 'empty') }]) {
    await assert.rejects(defaultSitePackages(environment), (error) => {
      assert.ok(error instanceof SiteswapError);
      assert.equal(error.code, 'NO_DIRECTORY');
      assert.ok(error.hint);
      return true;
    });
  }
});
