/** `jobs` of the items at a time, begun in their order. The first error ends it. */
export async function inLanes<T>(
  items: readonly T[],
  jobs: number,
  work: (item: T) => Promise<unknown>,
): Promise<void> {
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < items.length) await work(items[next++]!)
  }
  await Promise.all(Array.from({ length: Math.min(jobs, items.length) }, lane))
}
