/**
 * Run as a process by test/run.ts: `run-files LIMIT_MS FILE…`. Runs test files two at a time, in the order given: `node
 * --test` would sort them by name, and the longest would begin when the others have ended.
 */
import { resolve } from 'node:path';
import { run } from 'node:test';
import { spec, tap } from 'node:test/reporters';

const [limitMs, ...files] = process.argv.slice(2);
const events = run({ files: files.map((file) => resolve(file)), concurrency: 2, timeout: Number(limitMs) });
events.on('test:fail', ({ todo }) => {
  if (todo === undefined || todo === false) process.exitCode = 1;
});
if (process.stdout.isTTY) events.compose(new spec()).pipe(process.stdout);
else events.compose(tap).pipe(process.stdout);
