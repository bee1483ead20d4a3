/** `siteswap.toml`: what it may say, and that everything else is an error which names the key. */
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ALL_CHECKS, CONFIG_NAME, configPath, DEFAULT_SETTINGS, readConfig } from '../../src/daemon/config.js';
import { parseConfig } from '../../src/daemon/config-file.js';
import { SiteswapError } from '../../src/util/errors.js';

const PATH = '/venv/lib/siteswap.toml';

function parse(text: string): ReturnType<typeof parseConfig> {
  return parseConfig(PATH, text);
}

function assertBad(text: string, message: RegExp): void {
  assert.throws(
    () => parse(text),
    (error) => {
      assert.ok(error instanceof SiteswapError);
      assert.equal(error.code, 'USAGE');
      assert.ok(error.message.startsWith(`${PATH}: `), error.message);
      assert.match(error.message.slice(PATH.length + 2), message);
      assert.doesNotMatch(error.message, /\n/);
      return true;
    },
    text,
  );
}

test('nothing said: the defaults', () => {
  for (const text of ['', '# nothing\n', '[verify]\n', '[verify.checks]\n'])
    assert.deepEqual(parse(text), DEFAULT_SETTINGS);
  assert.equal(DEFAULT_SETTINGS.level, 'import');
});

test('everything said', () => {
  const text = `
[verify]
level = "deep"
tests = ["python -m app.selftest", "true"]
import-seconds = 1.5
test-seconds = 10
memory-mib = 512
processes = 7
[verify.checks]
record = false
import = false
pth = true
`;
  assert.deepEqual(parse(text), {
    level: 'deep',
    commands: ['python -m app.selftest', 'true'],
    skip: ['record', 'import'],
    limits: { importMs: 1500, commandMs: 10_000, memoryBytes: 512 * 2 ** 20, processes: 7 },
  });
  const all = ALL_CHECKS.map((name) => `${name} = false`).join('\n');
  assert.deepEqual(parse(`[verify.checks]\n${all}`).skip, ALL_CHECKS);
});

test('what is not known, or not right, is an error that names the key', () => {
  assertBad('[verfy]\n', /^verfy is not known$/);
  assertBad('level = "deep"\n', /^level is not known$/);
  assertBad('[verify]\nlevle = "deep"\n', /^verify\.levle is not known$/);
  assertBad('[verify]\nimport-second = 3\n', /^verify\.import-second is not known$/);
  assertBad('[verify.checks]\nrecords = false\n', /^verify\.checks\.records is not known$/);
  assertBad('[verify]\nlevel = "deeper"\n', /^verify\.level is not right: /);
  assertBad('[verify]\nlevel = 3\n', /^verify\.level is not right: /);
  assertBad('[verify]\ntests = "true"\n', /^verify\.tests is not right: /);
  assertBad('[verify]\ntests = [""]\n', /^verify\.tests\.0 is not right: must not be empty$/);
  assertBad('[verify]\ntests = ["true", 1]\n', /^verify\.tests\.1 is not right: /);
  assertBad('[verify]\nchecks = false\n', /^verify\.checks is not right: /);
  assertBad('[verify.checks]\nrecord = "no"\n', /^verify\.checks\.record is not right: /);
  assertBad('verify = 1\n', /^verify is not right: /);
  for (const [key, values] of Object.entries({
    'import-seconds': ['0', '-1', '"3"', '1e9', 'nan', 'inf', 'true'],
    'test-seconds': ['0', '100000'],
    'memory-mib': ['1', '1.5', '-5', 'inf'],
    processes: ['0', '1.5', '"many"'],
  })) {
    for (const value of values)
      assertBad(`[verify]\n${key} = ${value}\n`, new RegExp(`^verify\\.${key} is not right: `));
  }
});

test('what is no TOML is an error that names the line', () => {
  assertBad('[verify\n', /^line 1: /);
  assertBad('[verify]\nlevel = \n', /^line 2: /);
  assertBad('[verify]\nlevel = "import"\nlevel = "deep"\n', /^line 3: /);
});

test('a file that somebody else may write is not taken', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'siteswap-config-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const store = join(directory, '.venv.siteswap');
  const path = join(directory, CONFIG_NAME);
  assert.equal(configPath(store), path);
  assert.deepEqual(await readConfig(store), DEFAULT_SETTINGS);
  writeFileSync(path, '[verify]\nlevel = "none"\n', { mode: 0o600 });
  assert.equal((await readConfig(store)).level, 'none');
  for (const mode of [0o602, 0o620]) {
    chmodSync(path, mode);
    await assert.rejects(readConfig(store), /siteswap\.toml: somebody else may write to it/);
  }
  chmodSync(path, 0o644);
  assert.equal((await readConfig(store)).level, 'none');
  rmSync(path);
  symlinkSync('nowhere', path);
  assert.deepEqual(await readConfig(store), DEFAULT_SETTINGS);
});
