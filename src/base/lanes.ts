/** Work on many items, a few at a time. */

/** The results of `work`, in the items' order: `jobs` of them at a time, begun in that order. The first error ends it. */
export async function inLanes<T, R>(items: readonly T[], jobs: number, work: (item: T) => Promise<R>): Promise<R[]> {
  const out = new Array<R>(items.length)
  let next = 0
  const lane = async (): Promise<void> => {
    while (next < items.length) {
      const i = next++
      out[i] = await work(items[i]!)
    }
  }
  await Promise.all(Array.from({ length: Math.min(jobs, items.length) }, lane))
  return out
}
