/** Named places at which tests kill the process as `kill -9` would: `SITESWAP_CRASH_AT=<name>`. */
export function crashPoint(name: string): void {
  if (process.env['SITESWAP_CRASH_AT'] === name) process.kill(process.pid, 'SIGKILL');
}
