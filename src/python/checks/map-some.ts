/** Files are read and hashed side by side, but not all of thousands at once. */

const CONCURRENCY = 16;

/** As `Promise.all` of `map`, but only so many at a time. */
export async function mapSome<T, U>(items: readonly T[], map: (item: T) => Promise<U>): Promise<U[]> {
  const results: U[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    for (let at = next++; at < items.length; at = next++) results[at] = await map(items[at] as T);
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, work));
  return results;
}
