/**
 * What the interpreter runs in an import test, and how its answer is read back. The answer is the last line that it prints,
 * behind a mark that nobody can know before: a module that leaves the interpreter by itself, with whatever exit code, gives
 * none. Pure; the test is imports.ts.
 */
import * as v from 'valibot';

/** Isolated from the user's settings, and with a stack trace on a fatal signal; it writes no bytecode. */
const INTERPRETER_OPTIONS = ['-I', '-B', '-X', 'faulthandler'];

/** The answer is written to a duplicate of standard output: a module may close or replace its own. */
const SCRIPT = `
import os, sys
mark, name = sys.argv[1:]
del sys.argv[1:]
out = os.dup(1)
answer = {}
try:
    __import__(name)
    answer["kind"] = "imported"
except BaseException as error:
    import traceback
    traceback.print_exc()
    missing = isinstance(error, ModuleNotFoundError) and error.name
    absent = missing and (name + ".").startswith(missing + ".")
    answer["kind"] = "absent" if absent else "failed"
    answer["type"] = type(error).__name__
    answer["message"] = str(error)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
    if isinstance(error, SyntaxError) and error.filename:
        answer["message"] = str(error.msg)
        answer["file"], answer["line"] = error.filename, error.lineno
    elif frames:
        answer["file"], answer["line"] = frames[-1].filename, frames[-1].lineno
    elif getattr(error, "path", None):
        answer["file"] = error.path
import json
answer["path"] = [entry for entry in sys.path if isinstance(entry, str)]
sys.stdout.flush()
sys.stderr.flush()
os.write(out, ("\\n" + mark + json.dumps(answer) + "\\n").encode())
`;

export type ImportAnswer =
  | { kind: 'imported' }
  /** There is no such module. */
  | { kind: 'absent'; text: string }
  /** `text`: the exception's last line, and where it comes from. `file`: relative to an entry of sys.path. */
  | { kind: 'failed'; text: string; file: string | null };

const answerSchema = v.pipe(
  v.string(),
  v.parseJson(),
  v.variant('kind', [
    v.object({ kind: v.literal('imported') }),
    v.object({
      kind: v.picklist(['absent', 'failed']),
      type: v.string(),
      message: v.string(),
      file: v.optional(v.string()),
      line: v.nullish(v.number()),
      path: v.array(v.string()),
    }),
  ]),
);

export function importCommand(interpreter: string, module: string, mark: string): string[] {
  return [interpreter, ...INTERPRETER_OPTIONS, '-c', SCRIPT, mark, module];
}

/** Null when there is none: the interpreter did not come to the end of the import. */
export function parseAnswer(output: string, mark: string): ImportAnswer | null {
  const at = output.lastIndexOf(`\n${mark}`);
  if (at < 0) return null;
  const start = at + 1 + mark.length;
  const end = output.indexOf('\n', start);
  // A module can find out the mark in the end, and write what it likes.
  const parsed = v.safeParse(answerSchema, output.slice(start, end < 0 ? undefined : end));
  if (!parsed.success) return null;
  const raw = parsed.output;
  if (raw.kind === 'imported') return { kind: 'imported' };
  const file = raw.file === undefined ? null : relativeTo(raw.path, raw.file);
  const place = file === null ? '' : ` (${file}${raw.line ? `, line ${raw.line}` : ''})`;
  const text = oneLine(`${raw.type}${raw.message === '' ? '' : `: ${raw.message}`}`) + oneLine(place);
  return raw.kind === 'absent' ? { kind: 'absent', text } : { kind: 'failed', text, file };
}

/** Where the thread was that got it, by the trace that faulthandler prints on a fatal signal: the innermost place in a package; null when there is none. */
export function lastPlace(output: string): string | null {
  if (!output.includes('Fatal Python error:')) return null;
  // Other threads may come first.
  const trace = output.slice(Math.max(0, output.lastIndexOf('\nCurrent thread ')));
  for (const [, file = '', line] of trace.matchAll(/^ {2}File "([^"\n]+)", line (\d+) in /gm)) {
    if (file.startsWith('<') || !/\/(?:site|dist)-packages\//.test(file)) continue;
    return oneLine(`${file.replace(/^.*\/(?:site|dist)-packages\//, '')}, line ${line}`);
  }
  return null;
}

function relativeTo(path: readonly string[], file: string): string {
  const below = path.filter((entry) => entry !== '' && file.startsWith(`${entry}/`));
  const longest = below.reduce((best, entry) => (entry.length > best.length ? entry : best), '');
  return longest === '' ? file : file.slice(longest.length + 1);
}

const LONGEST_TEXT = 500;

/** It goes to a terminal, and what was installed chose the words. */
export function oneLine(text: string): string {
  const line = text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ').trimEnd();
  return line.length <= LONGEST_TEXT ? line : `${line.slice(0, LONGEST_TEXT)} …`;
}
