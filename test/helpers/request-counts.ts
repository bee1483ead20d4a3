/** What a mount was asked for by the kernel while something ran: the server's own counters, over its control socket. */
import type { ControlClient } from '../../src/daemon/control-client.js';

export type RequestCounts = Readonly<Record<string, number>>;

export async function countRequests(daemon: ControlClient, work: () => Promise<unknown>): Promise<RequestCounts> {
  const before = (await daemon.request('status', {})).counters.requests;
  await work();
  const after = (await daemon.request('status', {})).counters.requests;
  const grown = Object.entries(after).map(([name, count]): [string, number] => [name, count - (before[name] ?? 0)]);
  return Object.fromEntries(grown.filter(([, count]) => count > 0));
}

export function showCounts(counts: RequestCounts): string {
  const entries = Object.entries(counts).sort(([, a], [, b]) => b - a);
  return entries.map(([name, count]) => `${name} ${count}`).join(', ') || 'none';
}

/** Of several rounds the one with the fewest requests: a host that runs out of memory drops caches at any time. */
export function fewest(rounds: readonly RequestCounts[]): RequestCounts {
  const sum = (counts: RequestCounts): number => Object.values(counts).reduce((all, count) => all + count, 0);
  return [...rounds].sort((a, b) => sum(a) - sum(b))[0]!;
}
