/**
 * `siteswap run` as root: the command sees its transaction's own root over the mount, in a mount namespace of its own, so
 * that the kernel keeps its names; what it leaves behind there goes on like everybody else.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test, type TestContext } from 'node:test';
import { ROOT, SITESWAP } from '../helpers/built.js';
import { needsFuse, notRun } from '../helpers/mounted-site.js';
import { mountedVenv, until, type MountedVenv } from '../helpers/mounted-venv.js';
import { DETACH_OTHERS, namespaceProblem } from '../helpers/private-namespace.js';
import { runProgram, type RunResult } from '../helpers/venv.js';

const WALKS = 500;
const TIMEOUT_MS = 5 * 60_000;

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** A package with another one below, mounted over. */
function rootTest(name: string, body: (mounted: MountedVenv) => Promise<void>): void {
  test(name, { ...needsFuse, timeout: TIMEOUT_MS }, async (t: TestContext) => {
    const problem = namespaceProblem();
    if (problem !== null) return notRun(t, problem);
    const mounted = await mountedVenv(t, {
      pip: false,
      prepare: async (venv) => {
        const script = `
import os
for name in ('pkg', 'pkg/sub'):
    os.mkdir(name)
    open(name + '/__init__.py', 'w').write('VERSION = 0')`;
        const { code, stderr } = await venv.run('python', ['-c', script], { cwd: venv.sitePackages });
        assert.equal(code, 0, stderr);
      },
    });
    if (!(await mounted.status()).features.includes('epoch')) return notRun(t, 'the kernel has no epochs (Linux 6.16)');
    await body(mounted);
  });
}

/** `siteswap run -- bash -c SCRIPT`, in the site, where no mount of another test is in its way. */
function run({ work, site, venv }: MountedVenv, script: string): Promise<RunResult> {
  const command = [...SITESWAP, 'run', site, '--', 'bash', '-ec', script].map(quoted).join(' ');
  return runProgram(
    'unshare',
    ['--mount', '--propagation', 'private', 'bash', '-c', `${DETACH_OTHERS}\nexec ${command}`],
    {
      cwd: ROOT,
      timeoutMs: TIMEOUT_MS,
      env: { ...venv.env, WORK: work, SITE: site },
    },
  );
}

async function mustRun(mounted: MountedVenv, script: string): Promise<string> {
  const { code, stdout, stderr } = await run(mounted, script);
  assert.equal(code, 0, stdout + stderr + mounted.serverLog());
  return stdout;
}

/** A shell that a `run` has left behind in its namespace. */
class LeftBehind {
  readonly #writer: ChildProcess;
  readonly #answers: AsyncIterator<string>;

  private constructor(mounted: MountedVenv, commands: string, answers: string) {
    this.#answers = createInterface(mounted.start('/bin/cat', [answers]).stdout!)[Symbol.asyncIterator]();
    this.#writer = mounted.start('/bin/sh', ['-c', `exec cat >${quoted(commands)}`]);
  }

  static async of(mounted: MountedVenv, first: string): Promise<LeftBehind> {
    const [commands, answers] = [join(mounted.work, 'commands'), join(mounted.work, 'answers')];
    await mounted.must('/usr/bin/mkfifo', commands, answers);
    const loop = `exec <${quoted(commands)} >${quoted(answers)}
while read -r line; do bash -c "$line" 2>&1 | tr '\\n' ' '; echo; done`;
    await mustRun(mounted, `${first}\nsetsid -f bash -c ${quoted(loop)} </dev/null >/dev/null 2>&1`);
    return new LeftBehind(mounted, commands, answers);
  }

  async ask(command: string): Promise<string> {
    this.#writer.stdin!.write(`${command}\n`);
    const { value } = await this.#answers.next();
    return String(value).trim();
  }

  /** And with it its namespace, in which the mount could not be unmounted. */
  async end(): Promise<void> {
    this.#writer.stdin!.end();
    assert.equal((await this.#answers.next()).done, true);
  }
}

rootTest('the kernel keeps the names, and nobody else sees them', async (mounted) => {
  const { site } = mounted;
  const walks = `${quoted(mounted.python)} -c "
import os
for _ in range(${WALKS}):
    os.stat('pkg/sub/__init__.py'), os.path.exists('missing'), os.path.exists('pkg/made.py')"`;
  const before = (await mounted.status()).counters.requests;
  const script = `cd "$SITE"
echo 'VERSION = 1' >pkg/made.py
${walks}
ls
stat -c %i .
grep -c siteswap-root /proc/self/mountinfo`;
  const lines = (await mustRun(mounted, script)).trim().split('\n');
  assert.equal(lines.at(-1), '1', 'its own root is not there');
  assert.equal(lines.at(-2), (await mounted.must('/usr/bin/stat', '-c', '%i', site)).trim());
  assert.ok(!lines.some((line) => line.includes('siteswap')), lines.join(' '));
  const { generation, counters } = await mounted.status();
  assert.equal(generation, 1);
  const asked = (name: string): number => (counters.requests[name] ?? 0) - (before[name] ?? 0);
  // Python's own start is in it, and what comes before the own root is there.
  assert.ok(asked('LOOKUP') + asked('GETATTR') < WALKS, JSON.stringify([before, counters.requests]));
  assert.equal(await mounted.must('/bin/cat', join(site, 'pkg/made.py')), 'VERSION = 1\n');
});

rootTest('a member from outside of the namespace works on the same tree', async (mounted) => {
  const outside = `nsenter --mount=/proc/${process.pid}/ns/mnt`;
  const script = `cd "$SITE"
for way in '' ${quoted(outside)}; do for other in ${quoted(outside)} ''; do for at in . pkg pkg/sub; do
  file=$SITE/$at/new
  ! test -e "$file"
  ! $other test -e "$file"
  $way sh -c 'echo 1 >"$1"' - "$file"
  $other grep -q 1 "$file"
  $other mv "$file" "$file-2"
  ! $way test -e "$file"
  $way grep -q 1 "$file-2"
  $way mkdir "$file"
  $other test -d "$file"
  $other rmdir "$file"
  ! $way test -e "$file"
  $way rm "$file-2"
done; done; done
${outside} grep -c siteswap-root /proc/self/mountinfo || true
echo 1 >last`;
  assert.equal((await mustRun(mounted, script)).trim(), '0');
  const names = [...(await mounted.listing()).keys()].filter((name) => /new|last/.test(name));
  assert.deepEqual(names, ['last']);
});

rootTest('what it leaves behind sees the commit and those after it, and is in nobody’s way', async (mounted) => {
  const { site, python } = mounted;
  const left = await LeftBehind.of(mounted, `echo 'VERSION = 1' >"$SITE/pkg/__init__.py"; mkdir "$SITE/fresh"`);
  assert.equal(await left.ask('grep -c siteswap-root /proc/self/mountinfo'), '1');
  const versions = (): Promise<string[]> => {
    const script = 'import pkg, os; print(pkg.VERSION, os.path.isdir(os.path.dirname(pkg.__file__) + "/../fresh"))';
    return Promise.all([left.ask(`'${python}' -c '${script}'`), mounted.must(python, '-c', script)]);
  };
  assert.deepEqual(
    (await versions()).map((text) => text.trim()),
    ['1 True', '1 True'],
  );
  // Both walk the same directories all the time: each would take their places in the kernel from the other.
  const walk = `
import os, sys, time
end, failed = time.monotonic() + 3, 0
while time.monotonic() < end:
    for name in ('pkg/__init__.py', 'pkg/sub/__init__.py', 'fresh'):
        try: os.stat('${site}/' + name)
        except OSError as error: failed += 1
print(failed)`;
  writeFileSync(join(mounted.work, 'walk.py'), walk);
  const swaps = async (): Promise<void> => {
    for (let serial = 0; serial < 3; serial++)
      await mounted.siteswap('run', site, '--', 'touch', join(site, `more-${serial}`));
  };
  const walker = [join(mounted.work, 'walk.py')];
  const failed = await Promise.all([
    left.ask(`'${python}' ${walker[0]}`),
    mounted.must(python, ...walker),
    mounted.must(python, ...walker),
    swaps(),
  ]);
  assert.deepEqual(
    failed
      .slice(0, 3)
      .map(String)
      .map((text) => text.trim()),
    ['0', '0', '0'],
  );

  await mounted.siteswap('run', site, '--', 'sh', '-c', `echo 'VERSION = 2' >${quoted(join(site, 'pkg/__init__.py'))}`);
  assert.deepEqual(
    (await versions()).map((text) => text.trim()),
    ['2 True', '2 True'],
  );
  // A change is one like any other's.
  assert.equal(await left.ask(`touch '${site}/later' && echo done`), 'done');
  await mounted.settle();
  assert.equal(await mounted.must('/bin/cat', join(site, 'later')), '');

  const refused = await mounted.trySiteswap(['unmount', site]);
  assert.equal(refused.code, 12, refused.stdout + refused.stderr);
  await left.end();
});

rootTest('a command that fails changes nothing, and what it leaves behind neither', async (mounted) => {
  const ready = join(mounted.work, 'ready');
  const loop = `while ! test -e ${quoted(ready)}; do sleep 0.05; done
{ sh -c 'echo 2 >"$SITE/late"'; cat "$SITE/first"; } >${quoted(`${ready}-said`)} 2>&1; touch ${quoted(`${ready}-end`)}`;
  const { code } = await run(
    mounted,
    `echo 1 >"$SITE/first"; setsid -f bash -c ${quoted(loop)} >/dev/null 2>&1; exit 3`,
  );
  assert.equal(code, 3);
  writeFileSync(ready, '');
  await until('what was left behind ends', () => existsSync(`${ready}-end`));
  const said = await mounted.must('/bin/cat', `${ready}-said`);
  assert.match(said, /late: Read-only file system[^]*first: No such file or directory/);
  await mounted.settle();
  assert.equal((await mounted.status()).generation, 0);
});

rootTest('how a command is not started is told as ever', async (mounted) => {
  const missing = await mounted.tryRun(['no-such-command']);
  assert.deepEqual(
    [missing.code, missing.stderr.split('\n')[0]],
    [127, 'siteswap: no-such-command: command not found'],
  );
  const directory = await mounted.tryRun([mounted.work]);
  assert.equal(directory.code, 126, directory.stderr);
});
