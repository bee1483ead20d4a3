/**
 * What `siteswap.toml` says. Every key is known or an error: a misspelt one would leave something unchecked. Imported when
 * there is such a file.
 */
import { parse, TomlError } from 'smol-toml';
import * as v from 'valibot';
import { ALL_CHECKS, badConfig, DEFAULT_SETTINGS, LEVELS } from './config.js';
import type { VerifySettings } from './keeper-protocol.js';

const seconds = v.pipe(v.number(), v.minValue(1), v.maxValue(86_400));
const checksSchema = v.strictObject(Object.fromEntries(ALL_CHECKS.map((name) => [name, v.optional(v.boolean())])));
const schema = v.strictObject({
  verify: v.optional(
    v.strictObject({
      level: v.optional(v.picklist(LEVELS)),
      /** Shell commands, run in the staged tree; one that fails refuses the commit. */
      tests: v.optional(v.array(v.pipe(v.string(), v.nonEmpty('must not be empty')))),
      checks: v.optional(checksSchema),
      'import-seconds': v.optional(seconds),
      'test-seconds': v.optional(seconds),
      'memory-mib': v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(64))),
      processes: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(1))),
    }),
  ),
});

export function parseConfig(path: string, text: string): VerifySettings {
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    throw badConfig(
      path,
      `line ${error.line}: ${error.message.split('\n')[0]?.replace(/^Invalid TOML document: /, '')}`,
    );
  }
  const result = v.safeParse(schema, value);
  if (!result.success) {
    const [issue] = result.issues;
    const key = v.getDotPath(issue) ?? '';
    const what = issue.expected === 'never' ? 'is not known' : `is not right: ${issue.message}`;
    throw badConfig(path, `${key} ${what}`, `Checks are ${ALL_CHECKS.join(', ')}; see README.md for all keys.`);
  }
  const given = result.output.verify ?? {};
  const { level, commands, limits } = DEFAULT_SETTINGS;
  return {
    level: given.level ?? level,
    commands: given.tests ?? commands,
    skip: ALL_CHECKS.filter((name) => given.checks?.[name] === false),
    limits: {
      importMs: (given['import-seconds'] ?? limits.importMs / 1000) * 1000,
      commandMs: (given['test-seconds'] ?? limits.commandMs / 1000) * 1000,
      memoryBytes: (given['memory-mib'] ?? limits.memoryBytes / 2 ** 20) * 2 ** 20,
      processes: given.processes ?? limits.processes,
    },
  };
}
