/**
 * One broken wheel, or one install that went wrong, per kind of failure: each is refused with the file and the reason (or let
 * pass and told), and what was there before still works.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { mountedVenv, writeScript, type MountedVenv } from '../helpers/mounted-venv.js';
import type { RunResult } from '../helpers/venv.js';
import {
  assertCommitted,
  assertRunRefused,
  installedBefore,
  runInstall,
  valueOf,
  wheelOf,
} from '../helpers/verified-venv.js';
import type { WheelOptions } from '../helpers/wheel.js';

const TIMEOUT_MS = 10 * 60_000;

/** An extension module of the interpreter: in a package, it is one of the package's. */
const EXTENSION = extension();
/** In its first part, so that what has to be loaded is not all there. */
const CUT = EXTENSION.bytes.subarray(0, 10_000);

const MODULE = 'VALUE = 1\n';
const OTHER = 'VALUE = 2\n';

interface Case {
  /** What 2.0 is built of, beside `VERSION`; 1.0 has the same, but whole. */
  wheel?: (version: string) => Partial<WheelOptions> & { more?: string };
  /** After pip, in site-packages. */
  script?: string;
  /** Instead of pip. */
  install?: (mounted: MountedVenv, wheel: string) => Promise<RunResult>;
  why: RegExp;
}

const REFUSED: Record<string, Case> = {
  wronghash: {
    wheel: (version) => ({
      files: { 'wronghash/part.py': MODULE },
      ...(version === '2.0' && { recorded: { 'wronghash/part.py': OTHER } }),
    }),
    why: /1 file is not what wronghash-2\.0\.dist-info\/RECORD says: wronghash\/part\.py \(another sha256\)/,
  },
  missing: {
    wheel: (version) => ({ ...(version === '2.0' && { recorded: { 'missing/part.py': MODULE } }) }),
    why: /missing-2\.0\.dist-info\/RECORD lists 1 file that is missing: missing\/part\.py/,
  },
  cutwhenunpacked: {
    wheel: () => ({ files: { [`cutwhenunpacked/${EXTENSION.file}`]: EXTENSION.bytes } }),
    script: `truncate -s ${CUT.length} cutwhenunpacked/${EXTENSION.file}`,
    why: new RegExp(`cutwhenunpacked/${EXTENSION.file} \\(${CUT.length} bytes, not ${EXTENSION.bytes.length}\\)`),
  },
  // Its RECORD is right: only an import finds it.
  cutwhenbuilt: {
    wheel: (version) => ({
      files: { [`cutwhenbuilt/${EXTENSION.file}`]: version === '2.0' ? CUT : EXTENSION.bytes },
      more: `from cutwhenbuilt import ${EXTENSION.module}\n`,
    }),
    // Which of the two, is the linker's.
    why: /importing cutwhenbuilt failed: (the interpreter was killed by SIG(BUS|SEGV) \(cutwhenbuilt\/__init__\.py, line 2\)|ImportError: .*cutwhenbuilt\/)/,
  },
  nometadata: {
    script: 'rm nometadata-2.0.dist-info/METADATA',
    why: /nometadata-2\.0\.dist-info has no METADATA/,
  },
  syntax: {
    wheel: (version) => ({
      files: { 'syntax/part.py': version === '2.0' ? '\ndef f(:\n' : MODULE },
      more: 'from syntax import part\n',
    }),
    why: /importing syntax failed: SyntaxError: .* \(syntax\/part\.py, line 2\)/,
  },
  needed: {
    why: /needs 1\.0 needs needed<2, but needed 2\.0 is installed/,
  },
  halfway: {
    install: interruptedLikeUv,
    why: /halfway-2\.0\.dist-info has no RECORD/,
  },
};

/** Files first, then the metadata, RECORD at last: it does not come to that. */
function interruptedLikeUv(mounted: MountedVenv, wheel: string): Promise<RunResult> {
  const script = writeScript(
    mounted,
    'unpack.py',
    `import glob, shutil, sys, zipfile
wheel, site = sys.argv[1:]
for old in ['halfway', *glob.glob(site + '/halfway-*.dist-info')]:
    shutil.rmtree(site + '/' + old if '/' not in old else old)
with zipfile.ZipFile(wheel) as archive:
    names = archive.namelist()
    archive.extractall(site, [name for name in names if not name.endswith('/RECORD')])
`,
  );
  return mounted.tryRun([mounted.python, script, wheel, mounted.site]);
}

test('installs that are broken: refused, with the file and the reason', { timeout: TIMEOUT_MS }, async (t) => {
  const wheel = (work: string, name: string, version: string): string =>
    wheelOf(work, name, version, REFUSED[name]?.wheel?.(version));
  const mounted = await mountedVenv(t, {
    prepare: installedBefore(
      ...Object.keys(REFUSED).map((name) => (work: string) => wheel(work, name, '1.0')),
      (work) => wheelOf(work, 'needs', '1.0', { requires: ['needed<2'] }),
      (work) => wheelOf(work, 'owner', '1.0', { files: { 'common/__init__.py': MODULE } }),
    ),
  });
  const before = await mounted.listing();
  const refused = new Map<string, number>();
  for (const [name, { script, install, why }] of Object.entries(REFUSED)) {
    await t.test(name, async () => {
      const path = wheel(mounted.work, name, '2.0');
      const result = install
        ? await install(mounted, path)
        : await runInstall(mounted, path, { ...(script && { script }) });
      refused.set(name, assertRunRefused(result, why));
      assert.equal(await valueOf(mounted, name), '1.0');
    });
  }
  await t.test('two distributions with one __init__.py', async () => {
    const intruder = wheelOf(mounted.work, 'intruder', '1.0', { files: { 'common/__init__.py': OTHER } });
    const result = await runInstall(mounted, intruder);
    const why = /common\/__init__\.py: intruder-1\.0\.dist-info and owner-1\.0\.dist-info both have it, with different/;
    refused.set('intruder', assertRunRefused(result, why));
    assert.equal(await valueOf(mounted, 'common', 'VALUE'), '1');
  });
  assert.deepEqual(await mounted.listing(), before, 'nothing of all that is visible');

  await t.test('status and log tell of each, and why', async () => {
    const { transactions, generation } = await mounted.status();
    assert.equal(generation, 0);
    assert.deepEqual(
      transactions.map(({ id, state }) => [id, state]),
      [...refused.values()].map((id) => [id, 'refused']),
    );
    const [status, log] = [await mounted.siteswap('status', mounted.site), await mounted.siteswap('log', mounted.site)];
    for (const [name, { why }] of Object.entries(REFUSED)) {
      const told = transactions.find(({ id }) => id === refused.get(name))?.reason ?? '';
      assert.match(told, why);
      assert.ok(status.includes(`${refused.get(name)} was refused: ${told}`), status);
      assert.match(log, new RegExp(`^${refused.get(name)} was refused \\(.*\\): `, 'm'));
      assert.ok(log.includes(told), log);
    }
  });

  await t.test('commit --force takes one, abort drops the others', async () => {
    const [taken, ...others] = refused;
    const [name, id] = taken!;
    assert.match(await mounted.siteswap('commit', '--force', mounted.site, String(id)), /1/);
    assert.equal(await valueOf(mounted, name), '2.0');
    const [newest] = await mounted.log();
    assert.deepEqual(newest?.packages, [{ name, from: '1.0', to: '2.0' }]);
    assert.match(newest?.warnings.join() ?? '', /^taken by force, although: .*wronghash\/part\.py/);
    for (const [, other] of others) await mounted.siteswap('abort', mounted.site, String(other));
    const { transactions, generation } = await mounted.status();
    assert.deepEqual([transactions, generation], [[], 1]);
  });
});

test('what only smells is committed, and told', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t);
  const results = {
    pth: await runInstall(
      mounted,
      wheelOf(mounted.work, 'pointer', '1.0', { files: { 'pointer.pth': '/nowhere/at/all\n' } }),
    ),
    import: await runInstall(mounted, wheelOf(mounted.work, 'newborn', '1.0', { more: 'import there_is_no_such\n' })),
  };
  const warnings = {
    pth: 'pointer.pth points to /nowhere/at/all, where there is nothing',
    import:
      "new module newborn does not import: ModuleNotFoundError: No module named 'there_is_no_such' (newborn/__init__.py, line 2)",
  };
  for (const name of ['pth', 'import'] as const) {
    assertCommitted(results[name]);
    assert.equal(results[name].stderr, `warning: ${warnings[name]}\n`);
  }
  assert.equal(await valueOf(mounted, 'pointer'), '1.0');
  assert.deepEqual(
    (await mounted.log()).map((generation) => generation.warnings),
    [[warnings.import], [warnings.pth], []],
  );
  const log = await mounted.siteswap('log', mounted.site);
  for (const warning of Object.values(warnings)) assert.ok(log.includes(`warning: ${warning}`), log);
});

test('what the root does not show is verified all the same', { timeout: TIMEOUT_MS }, async (t) => {
  const mounted = await mountedVenv(t, {
    prepare: installedBefore((work) =>
      wheelOf(work, 'below', '1.0', { files: { 'below/part.py': MODULE, 'below/sub/deep.py': MODULE } }),
    ),
  });
  // What is done, and what is so afterwards and not before.
  const cases = {
    'a file far below it, in place': ['echo VALUE = 3 > below/sub/deep.py', 'grep -q 3 below/sub/deep.py'],
    'a new file below it': ['echo VALUE = 3 > below/sub/new.py', 'test -e below/sub/new.py'],
    'only attributes': ['chmod 600 below/part.py', 'test $(stat -c %a below/part.py) = 600'],
    'a new name in it, with its old time': [
      'touch -r . ../time && echo VALUE = 3 > beside.py && touch -r ../time .',
      'test -e beside.py && ! test ../time -nt . && ! test . -nt ../time',
    ],
  } as const;
  for (const [what, [script, isDone]] of Object.entries(cases)) {
    await t.test(what, async () => {
      const inSite = (command: string): string[] => ['sh', '-c', `cd '${mounted.site}' && ${command}`];
      const install = (check: string): Promise<RunResult> =>
        mounted.trySiteswap(['run', mounted.site, '--check', check, '--', ...inSite(script)]);
      const before = (await mounted.status()).generation;
      assertRunRefused(await install('exit 1'), /exit 1/);
      assert.notEqual((await mounted.tryRun(inSite(isDone))).code, 0);
      assert.equal((await mounted.status()).generation, before);
      assertCommitted(await install(`cd '${mounted.site}' && ${isDone}`));
      assert.equal((await mounted.status()).generation, before + 1);
    });
  }
});

function extension(): { file: string; module: string; bytes: Buffer } {
  const code = "import sysconfig; print(sysconfig.get_path('platstdlib'))";
  const directory = join(execFileSync('python3', ['-c', code], { encoding: 'utf8' }).trim(), 'lib-dynload');
  const file = readdirSync(directory).find((name) => /^_json\..*\.so$/.test(name));
  assert.ok(file, `${directory} has no _json`);
  return { file, module: '_json', bytes: readFileSync(join(directory, file)) };
}
