/** For every process that runs as long as a mount: keeper, server, verifier, a command in the foreground. */

/**
 * Standard error is the log's file or somebody's pipe, and what is written there (by `debug`) is not worth a process: without
 * this a full disk, or a reader that has gone, ends it with an uncaught error.
 */
export function outliveStderr(): void {
  process.stderr.on('error', () => undefined);
}
