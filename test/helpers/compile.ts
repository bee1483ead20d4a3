/** A program in C for a test: what Python is too slow for, or can't say. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Its path. */
export function compile(directory: string, name: string, source: string): string {
  const program = join(directory, name);
  writeFileSync(`${program}.c`, source);
  execFileSync('cc', ['-O1', '-pthread', '-o', program, `${program}.c`], { stdio: 'pipe' });
  return program;
}
