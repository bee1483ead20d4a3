/** Waiting for what nobody tells: looked at again and again. */
import { setTimeout as sleep } from 'node:timers/promises';

const POLL_MS = 20;

/** False when `condition` did not hold within the time. */
export async function holdsWithin(condition: () => boolean, ms: number): Promise<boolean> {
  const deadline = Date.now() + ms;
  while (!condition()) {
    if (Date.now() > deadline) return false;
    await sleep(POLL_MS);
  }
  return true;
}
