/** The import test over two plain trees, with real interpreters in real sandboxes: no mount is needed for it. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import type { Finding } from '../../src/python/checks/check.js';
import { lastPlace, parseAnswer } from '../../src/verifier/import-script.js';
import { importTest, MAX_MODULES, type View } from '../../src/verifier/imports.js';
import { runSandboxed, type SandboxLimits, type SandboxOutcome } from '../../src/verifier/sandbox.js';
import { makeVenv } from '../helpers/venv.js';

const MB = 1 << 20;
const LIMITS: SandboxLimits = { timeMs: 30_000, memoryBytes: 512 * MB, processes: 16, outputBytes: 20_000 };

const work = mkdtempSync(join(realpathSync(tmpdir()), 'siteswap-imports-test-'));
after(() => rmSync(work, { recursive: true, force: true }));
const venvs = {
  before: makeVenv(join(work, 'before'), { pip: false }),
  after: makeVenv(join(work, 'after'), { pip: false }),
};

type Files = Record<string, string>;

function write(view: View, files: Files): void {
  for (const [path, text] of Object.entries(files)) {
    const target = join(venvs[view].sitePackages, path);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, text);
  }
}

/** Each test has modules of its own. */
async function findings(modules: string[], trees: { before?: Files; after: Files }, limits = {}): Promise<Finding[]> {
  write('before', trees.before ?? {});
  write('after', trees.after);
  return importTest({
    // The command's first word is changed below: two trees have two interpreters here.
    interpreter: 'python',
    modules,
    concurrency: 2,
    run: (view, [, ...command]) =>
      runSandboxed({
        command: [venvs[view].python, ...command],
        owner: { uid: process.getuid!(), gid: process.getgid!() },
        limits: { ...LIMITS, ...limits },
      }),
  });
}

const error = (path: string, message: string): Finding => ({ severity: 'error', check: 'import', path, message });
const warning = (path: string, message: string): Finding => ({ severity: 'warning', check: 'import', path, message });

test('what can be imported', async () => {
  const modules = ['good', 'ns.good'];
  assert.deepEqual(await findings(modules, { after: { 'good.py': 'print("hello")', 'ns/good/__init__.py': '' } }), []);
});

test('a syntax error in a submodule', async () => {
  const before = { 'demo/__init__.py': 'from . import sub', 'demo/sub.py': '' };
  const trees = { before, after: { ...before, 'demo/sub.py': 'x = 1\n\ndef broken(:\n' } };
  assert.deepEqual(await findings(['demo'], trees), [
    error('demo/sub.py', 'importing demo failed: SyntaxError: invalid syntax (demo/sub.py, line 3)'),
  ]);
});

test('an exception, with the place it comes from', async () => {
  const trees = {
    before: { 'raises.py': '' },
    after: { 'raises.py': 'def f():\n    raise KeyError("no\\x1b[31m\\nwhere")\nf()' },
  };
  assert.deepEqual(await findings(['raises'], trees), [
    error('raises.py', "importing raises failed: KeyError: 'no\\x1b[31m\\nwhere' (raises.py, line 2)"),
  ]);
});

test('a truncated extension module', async () => {
  const [found] = await findings(['_cut'], { before: { '_cut.py': '' }, after: { '_cut.so': 'ELF', '_cut.py': '' } });
  assert.equal(found?.severity, 'error');
  assert.match(found.message, /^importing _cut failed: ImportError: .*_cut\.so: file too short/);
});

test('new, and does not import: told', async () => {
  const after = { 'fresh/__init__.py': 'import absent_dependency' };
  assert.deepEqual(await findings(['fresh'], { after }), [
    warning(
      'fresh/__init__.py',
      "new module fresh does not import: ModuleNotFoundError: No module named 'absent_dependency' (fresh/__init__.py, line 1)",
    ),
  ]);
});

test('failed before: nothing new', async () => {
  const files = { 'always.py': 'import absent_dependency' };
  assert.deepEqual(await findings(['always'], { before: files, after: { 'always.py': '1/0' } }), []);
});

test('gone', async () => {
  assert.deepEqual(await findings(['gone'], { before: { 'gone.py': '' }, after: {} }), [
    error('gone', "importing gone failed: ModuleNotFoundError: No module named 'gone'"),
  ]);
});

for (const [name, code, text] of [
  ['exits', 'import sys; sys.exit(0)', 'SystemExit: 0 (exits.py, line 1)'],
  ['leaves', 'import os; os._exit(0)', 'it ended the interpreter with exit code 0'],
  [
    'pretends',
    'import os; os.write(1, b"\\nsiteswap-0 {\\"kind\\": \\"imported\\"}\\n"); os._exit(0)',
    'it ended the interpreter with exit code 0',
  ],
  [
    'crashes',
    'import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)',
    'the interpreter was killed by SIGSEGV (crashes.py, line 2)',
  ],
  [
    'writes',
    'open("/tmp/siteswap-written-outside", "w")',
    /^(PermissionError: \[Errno 13\]|OSError: \[Errno 30\]).*siteswap-written-outside.*\(writes.py, line 1\)$/,
  ],
] as const) {
  test(`it ${name}`, async () => {
    const [found, ...more] = await findings([name], {
      before: { [`${name}.py`]: '' },
      after: { [`${name}.py`]: code },
    });
    assert.deepEqual(more, []);
    assert.equal(found?.severity, 'error');
    const told = found.message.replace(`importing ${name} failed: `, '');
    if (typeof text === 'string') assert.equal(told, text);
    else assert.match(told, text);
  });
}

test('it sleeps for ever', async () => {
  const trees = { before: { 'sleeps.py': '' }, after: { 'sleeps.py': 'import time\ntime.sleep(1000)' } };
  const [found] = await findings(['sleeps'], trees, { timeMs: 3000 });
  assert.match(found?.message ?? '', /^importing sleeps failed: it was not done after 3\.\d s \(sleeps\.py, line 2\)$/);
});

test('it eats memory', async () => {
  const code = 'import time\nkept = b"x" * (300 << 20)\ntime.sleep(1000)';
  const trees = { before: { 'eats.py': '' }, after: { 'eats.py': code } };
  const found = await findings(['eats'], trees, { memoryBytes: 128 * MB });
  assert.deepEqual(found, [error('eats', 'importing eats failed: it used more memory than a test may')]);
});

test('processes that it leaves: told, unless it always did', async () => {
  const code = 'import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(1000)';
  const trees = { before: { 'stays.py': code }, after: { 'stays.py': code, 'forks.py': code } };
  assert.deepEqual(await findings(['forks', 'stays'], trees), [
    warning('forks', 'forks can be imported, but it leaves a process running (killed)'),
  ]);
});

test('a thread that never ends', async () => {
  const code = 'import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()';
  const [found, ...more] = await findings(['threads'], { after: { 'threads.py': code } }, { timeMs: 3000 });
  assert.deepEqual(more, []);
  assert.match(found?.message ?? '', /^threads can be imported, but the interpreter does not end afterwards/);
  assert.equal(found?.severity, 'warning');
});

function outcome(part: Partial<SandboxOutcome>): SandboxOutcome {
  const base = { code: null, signal: null, output: '', durationMs: 1, leftovers: 0, contained: true };
  return { kind: 'exited', ...base, ...part };
}

test('a sandbox that fails is told once, and refuses: nobody has looked at the modules', async () => {
  const failed = outcome({ kind: 'sandbox-failed', output: 'setgroups: Operation not permitted' });
  const told = [error('', "imports can't be tested: the sandbox failed: setgroups: Operation not permitted")];
  const options = { interpreter: 'python', modules: ['a', 'b'], concurrency: 1 };
  for (const where of [['after', 'before'], ['after'], ['before']]) {
    const run = async (view: View): Promise<SandboxOutcome> => (where.includes(view) ? failed : outcome({ code: 1 }));
    assert.deepEqual(await importTest({ ...options, run }), told);
  }
});

test('at most so many modules, at most so many at once', async () => {
  const modules = Array.from({ length: MAX_MODULES + 5 }, (_, index) => `m${index}`);
  let now = 0;
  let most = 0;
  const seen: number[] = [];
  const found = await importTest({
    interpreter: 'python',
    modules,
    concurrency: 3,
    run: async (_view, command) => {
      most = Math.max(most, ++now);
      await new Promise((resolve) => setImmediate(resolve));
      now--;
      return outcome({ code: 0, output: `\n${command.at(-2)}{"kind": "imported", "path": []}\n` });
    },
    onProgress: ({ done, total }) => seen.push(done / total),
  });
  assert.deepEqual(found, [warning('', `only ${MAX_MODULES} of ${MAX_MODULES + 5} changed modules were imported`)]);
  assert.equal(most, 3);
  assert.equal(seen.length, MAX_MODULES);
  assert.equal(seen.at(-1), 1);
});

test('answers: control characters do not reach a terminal', () => {
  const raw = { kind: 'failed', type: 'E', message: 'a\u001b[31mb\r\n\u202ec', path: [] };
  assert.deepEqual(parseAnswer(`noise\nM ${JSON.stringify(raw)}\n`, 'M '), {
    kind: 'failed',
    text: 'E: a [31mb c',
    file: null,
  });
  assert.equal(parseAnswer('noise', 'M '), null);
});

test('the place in a trace is that of the thread that got the signal', () => {
  const trace = `Fatal Python error: Aborted

Thread 0x1 (most recent call first):
  File "/v/lib/python3.11/site-packages/other.py", line 9 in run

Current thread 0x2 (most recent call first):
  File "/usr/lib/python3.11/socket.py", line 3 in wait
  File "/v/lib/python3.11/site-packages/demo/net.py", line 5 in <module>
  File "<frozen importlib._bootstrap>", line 241 in _call_with_frames_removed
`;
  assert.equal(lastPlace(trace), 'demo/net.py, line 5');
  assert.equal(lastPlace('Traceback (most recent call last):'), null);
});
