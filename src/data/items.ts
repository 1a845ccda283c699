/** Samples of a set in items of so many, for work that is divided by them. */
import type { SampleSet } from './array-set.ts'

/** Samples from `from` up to `to`, or to the end; null where there are none. */
export function samplesBetween(set: SampleSet, from: number, to: number): SampleSet | null {
  const end = Math.min(to, set.size)
  if (from === 0 && end === set.size) return set
  return from >= end ? null : set.select(Array.from({ length: end - from }, (_, i) => from + i))
}

/** Runs of some samples each, together as items of `size` samples: a run is never more than an item. */
export async function* inItems<T extends { readonly count: number }>(
  runs: AsyncIterable<T>,
  size: number,
): AsyncGenerator<readonly T[], void, undefined> {
  let item: T[] = []
  let count = 0
  for await (const run of runs) {
    item.push(run)
    count += run.count
    if (count < size) continue
    yield item
    item = []
    count = 0
  }
  if (item.length > 0) yield item
}

/** Two sequences side by side, as long as both last. */
export async function* inStep<A, B>(
  first: AsyncIterable<A>,
  second: AsyncIterable<B>,
): AsyncGenerator<readonly [A, B], void, undefined> {
  const others = second[Symbol.asyncIterator]()
  try {
    for await (const one of first) {
      const other = await others.next()
      if (other.done) return
      yield [one, other.value]
    }
  } finally {
    await others.return?.()
  }
}
