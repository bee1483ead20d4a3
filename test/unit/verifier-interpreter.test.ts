/** What the environment's interpreter says of itself, and what it means when it says nothing. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { View } from '../../src/verifier/imports.js';
import { askInterpreter } from '../../src/verifier/interpreter.js';
import type { SandboxOutcome } from '../../src/verifier/sandbox.js';
import { makeVenv } from '../helpers/venv.js';

const work = realpathSync(mkdtempSync(join(tmpdir(), 'siteswap-interpreter-')));
after(() => rmSync(work, { recursive: true, force: true }));
const venv = makeVenv(join(work, 'venv'), { pip: false });

function outcome(output: string, code = 0): SandboxOutcome {
  return { kind: 'exited', code, signal: null, output, durationMs: 1, leftovers: 0, contained: true };
}

function really(command: readonly string[]): SandboxOutcome {
  const { stdout, stderr, status } = spawnSync(command[0]!, command.slice(1), { encoding: 'utf8', env: venv.env });
  return outcome(stdout + stderr, status ?? 1);
}

test('markers, and what lies elsewhere, of a real one', async () => {
  const elsewhere = join(work, 'elsewhere');
  for (const directory of [elsewhere, venv.sitePackages]) {
    mkdirSync(join(directory, 'there-3.1.dist-info'), { recursive: true });
    const name = directory === elsewhere ? 'there' : 'here';
    writeFileSync(
      join(directory, 'there-3.1.dist-info', 'METADATA'),
      `Metadata-Version: 2.1\nName: ${name}\nVersion: 3.1\n`,
    );
  }
  writeFileSync(join(venv.sitePackages, 'elsewhere.pth'), `${elsewhere}\nimport sys; print('noise')\n`);
  const views: View[] = [];
  const { facts, findings } = await askInterpreter({
    interpreter: venv.python,
    root: venv.sitePackages,
    importsFollow: true,
    run: (view, command) => {
      views.push(view);
      return Promise.resolve(really(command));
    },
  });
  assert.deepEqual([views, findings], [['after'], []]);
  assert.deepEqual(facts?.elsewhere, [{ name: 'there', version: '3.1' }]);
  const says = (code: string): string => really([venv.python, '-I', '-S', '-c', code]).output.trim();
  assert.equal(facts?.markers['python_full_version'], says('import platform; print(platform.python_version())'));
  assert.equal(facts?.markers['platform_machine'], says('import platform; print(platform.machine())'));
  assert.deepEqual(Object.keys(facts?.markers ?? {}).sort(), [
    'implementation_name',
    'implementation_version',
    'os_name',
    'platform_machine',
    'platform_python_implementation',
    'platform_release',
    'platform_system',
    'platform_version',
    'python_full_version',
    'python_version',
    'sys_platform',
  ]);
});

test('it started before and does not now: an error, in one printable line', async () => {
  const { facts, findings } = await askInterpreter({
    interpreter: venv.python,
    root: venv.sitePackages,
    importsFollow: true,
    run: (view, command) =>
      Promise.resolve(
        view === 'before' ? really(command) : outcome('Error in x.pth\n  more\nValueError: \x1b[2Jno\n', 1),
      ),
  });
  assert.ok(facts, 'the markers are those of before');
  const message = `${venv.python} does not start any more: Error in x.pth: ValueError:  [2Jno`;
  assert.deepEqual(findings, [{ severity: 'error', check: 'interpreter', path: '', message }]);
});

test('it did not start before either: told, no more; nobody is to blame', async () => {
  const asked = askInterpreter({
    interpreter: '/nowhere/python',
    root: venv.sitePackages,
    importsFollow: true,
    run: () => Promise.resolve(outcome('command not found', 127)),
  });
  const message = '/nowhere/python does not start, so no import was tested: command not found';
  const finding = { severity: 'warning', check: 'interpreter', path: '', message };
  assert.deepEqual(await asked, { facts: null, findings: [finding] });
});

test("a sandbox that fails: not the interpreter's fault, and refused where imports were to be tested", async () => {
  const failed = { ...outcome('setgroups: Operation not permitted'), kind: 'sandbox-failed' } as const;
  const asked = (where: readonly View[], importsFollow: boolean): ReturnType<typeof askInterpreter> =>
    askInterpreter({
      interpreter: venv.python,
      root: venv.sitePackages,
      importsFollow,
      run: (view) => Promise.resolve(where.includes(view) ? failed : outcome('no', 1)),
    });
  const why = 'the sandbox failed: setgroups: Operation not permitted';
  const error = { severity: 'error', check: 'interpreter', path: '', message: `imports can't be tested: ${why}` };
  for (const where of [['after', 'before'], ['after'], ['before']] as const) {
    assert.deepEqual(await asked(where, true), { facts: null, findings: [error] });
  }
  const told = { ...error, severity: 'warning', message: `the interpreter can't be tested: ${why}` };
  assert.deepEqual(await asked(['after'], false), { facts: null, findings: [told] });
});

test('an answer that is cut short, or made up by a package, does not end the verification', async () => {
  for (const text of ['{"markers": {"os_na', '{"markers": 3}', 'null']) {
    const { facts, findings } = await askInterpreter({
      interpreter: venv.python,
      root: venv.sitePackages,
      importsFollow: true,
      // A package may read the mark from its own command line.
      run: (_view, command) => Promise.resolve(outcome(`\n${command.at(-2)}${text}\n`)),
    });
    assert.deepEqual([facts, findings.map(({ severity }) => severity)], [null, ['warning']]);
  }
});
