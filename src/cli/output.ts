/**
 * What the user sees: data on stdout, messages on stderr, each readable without colour. Errors are one line `error: …`,
 * and `hint: …` on a line of its own says what to do. Used by every command; nothing else of the CLI prints.
 */
import { styleText } from 'node:util';
import { exitCode } from '../util/exit-codes.js';
import { describe, SiteswapError } from '../util/errors.js';

type Style = Parameters<typeof styleText>[0];

function styled(style: Style, text: string): string {
  return styleText(style, text, { stream: process.stderr });
}

/** One or more lines of data. */
export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, 2));
}

/** Something worth knowing that is no data. */
export function tell(text: string): void {
  process.stderr.write(`${text}\n`);
}

export function hint(text: string): void {
  tell(`${styled('cyan', 'hint:')} ${text}`);
}

export function warn(text: string): void {
  tell(`${styled('yellow', 'warning:')} ${text}`);
}

/** Prints what was thrown and returns the exit code for it. */
export function reportError(error: unknown): number {
  const label = styled('red', 'error:');
  if (error instanceof SiteswapError) {
    tell(`${label} ${error.message}`);
    if (error.hint) hint(error.hint);
    if (debugging() && error.stack) tell(error.stack);
    return error.exitCode;
  }
  tell(`${label} internal error: ${describe(error)}`);
  if (debugging() && error instanceof Error && error.stack) tell(error.stack);
  else hint('This is a bug. Run the command again with DEBUG=siteswap:* and report what it says.');
  return exitCode('internal');
}

function debugging(): boolean {
  return (process.env['DEBUG'] ?? '').includes('siteswap');
}

/** Columns as wide as their widest cell; the last one is not padded. `rows[0]` is the heading. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)));
  return rows
    .map((row) => row.map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i]!))).join('  '))
    .join('\n');
}

/** `label: value` lines with the values below each other. */
export function fields(pairs: readonly (readonly [string, string])[]): string {
  const width = Math.max(...pairs.map(([label]) => label.length)) + 1;
  return pairs.map(([label, value]) => `${`${label}:`.padEnd(width)}  ${value}`).join('\n');
}

/** 2026-01-31 12:34:56, local time. */
export function formatTime(ms: number): string {
  const date = new Date(ms);
  const two = (n: number): string => String(n).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

export function tellWarnings(warnings: readonly string[]): void {
  for (const warning of warnings) tell(`warning: ${warning}`);
}
