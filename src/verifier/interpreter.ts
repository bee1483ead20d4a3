/**
 * The environment's interpreter: does it start in the staged tree (a broken `.pth` or `sitecustomize` stops all of them), and
 * what does it say of itself. Asked in the sandbox, since it runs what was installed.
 *
 * A sandbox that fails has asked nothing: that is told as its own fault, and refused where imports were to be tested.
 */
import { randomBytes } from 'node:crypto';
import * as v from 'valibot';
import type { Finding } from '../python/checks/check.js';
import { oneLine } from './import-script.js';
import type { View } from './imports.js';
import type { SandboxOutcome } from './sandbox.js';

export const INTERPRETER_CHECK = 'interpreter';

const answerSchema = v.object({
  markers: v.record(v.string(), v.string()),
  elsewhere: v.array(v.object({ name: v.string(), version: v.string() })),
});
export type InterpreterFacts = v.InferOutput<typeof answerSchema>;

/** PEP 508's variables as `packaging` computes them; distributions that lie outside of the directory named. */
const SCRIPT = `
import json, os, platform, sys
mark, root = sys.argv[1:]
def dotted(v):
    return "%d.%d.%d" % v[:3] + (v[3][0] + str(v[4]) if v[3] != "final" else "")
markers = {
    "os_name": os.name, "sys_platform": sys.platform, "platform_machine": platform.machine(),
    "platform_python_implementation": platform.python_implementation(), "platform_release": platform.release(),
    "platform_system": platform.system(), "platform_version": platform.version(),
    "python_version": "%d.%d" % sys.version_info[:2], "python_full_version": platform.python_version(),
    "implementation_name": sys.implementation.name, "implementation_version": dotted(sys.implementation.version),
}
elsewhere = []
paths = [p for p in sys.path if os.path.isdir(p) and (os.path.realpath(p) + "/").find(root + "/") != 0]
try:
    from importlib.metadata import distributions
    for d in distributions(path=paths):
        if d.metadata["Name"] and d.version:
            elsewhere.append({"name": d.metadata["Name"], "version": d.version})
except ImportError:
    pass
print()
print(mark + json.dumps({"markers": markers, "elsewhere": elsewhere}))
`;

export interface InterpreterOptions {
  interpreter: string;
  /** Of the tree that is judged. */
  root: string;
  run: (view: View, command: readonly string[]) => Promise<SandboxOutcome>;
  /** It is asked because imports shall be tested next. */
  importsFollow: boolean;
}

export async function askInterpreter(
  options: InterpreterOptions,
): Promise<{ facts: InterpreterFacts | null; findings: Finding[] }> {
  const after = await ask('after', options);
  if (after.facts !== null) return { facts: after.facts, findings: [] };
  if (after.outcome.kind === 'sandbox-failed') return untested(after.outcome, options);
  const before = await ask('before', options);
  if (before.outcome.kind === 'sandbox-failed') return untested(before.outcome, options);
  const said = firstAndLast(after.outcome.output) || after.outcome.kind;
  const finding = (severity: Finding['severity'], what: string): Finding =>
    interpreterFinding(severity, `${options.interpreter} ${what}: ${said}`);
  if (before.facts !== null) return { facts: before.facts, findings: [finding('error', 'does not start any more')] };
  // Not this transaction's doing; but nobody shall believe that something was imported.
  return { facts: null, findings: [finding('warning', 'does not start, so no import was tested')] };
}

/** A commit that nobody looked at would break what is promised; who wants none of it says so (`--verify record`). */
function untested(
  { output }: SandboxOutcome,
  { importsFollow }: InterpreterOptions,
): { facts: null; findings: Finding[] } {
  const finding = importsFollow
    ? interpreterFinding('error', `imports can't be tested: the sandbox failed: ${output}`)
    : interpreterFinding('warning', `the interpreter can't be tested: the sandbox failed: ${output}`);
  return { facts: null, findings: [finding] };
}

function interpreterFinding(severity: Finding['severity'], message: string): Finding {
  return { severity, check: INTERPRETER_CHECK, path: '', message: oneLine(message) };
}

async function ask(
  view: View,
  { interpreter, root, run }: InterpreterOptions,
): Promise<{ facts: InterpreterFacts | null; outcome: SandboxOutcome }> {
  const mark = `siteswap-${randomBytes(16).toString('hex')} `;
  const outcome = await run(view, [interpreter, '-I', '-c', SCRIPT, mark, root]);
  const line = outcome.output.split('\n').find((each) => each.startsWith(mark));
  if (line === undefined) return { facts: null, outcome };
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), answerSchema), line.slice(mark.length));
  return { facts: parsed.success ? parsed.output : null, outcome };
}

/** The last line says what went wrong. */
function firstAndLast(text: string): string {
  const [first = '', ...others] = text.trim().split('\n');
  const last = others.at(-1)?.trim();
  return last ? `${first.split(': ')[0]}: ${last}` : first;
}
