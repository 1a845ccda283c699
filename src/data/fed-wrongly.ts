/** Signs that a model is fed what it was not made for. */
import type { Model } from '../graph/model.ts'
import type { SampleSet } from './array-set.ts'
import type { Preprocess } from './preprocess.ts'
import { sampleBatches } from './sample-set.ts'

/** Right by chance, and a little more. */
const CHANCE = 1.2

export const isGuessing = (top1: number, classes: number): boolean => classes > 1 && top1 <= CHANCE / classes

/** Of so many right answers by chance the share says something. */
const LEAST_RIGHT = 5

/** What to say about an accuracy; null where there is nothing to. `pictures`: what it was measured on. */
export function guessingWarning(top1: number, classes: number, samples: number, pictures: boolean): string | null {
  if (!isGuessing(top1, classes) || samples < LEAST_RIGHT * classes) return null
  const fed = pictures
    ? 'its preprocessing (--mean, --std, --scale; --show 8 writes what it sees)'
    : 'how its inputs were prepared in training'
  return `top-1 is no better than guessing among ${classes} classes: unless the model is not trained, look at ${fed} and at the order of its classes (--classes)`
}

const round = (x: number): number => Number(x.toPrecision(3))

/** Samples that are looked at. */
const FIRST = 16
/** Normalised pixels are a few deviations from their mean. */
const FAR = 30

/** What is odd about the first samples as the model gets them; null where nothing is. */
export async function inputWarning(
  model: Model,
  set: SampleSet,
  preprocess: Preprocess | undefined,
): Promise<string | null> {
  const some = set.take(Math.min(FIRST, set.size))
  const ranges = new Map<string, { low: number; high: number }>()
  for await (const { feeds } of sampleBatches(model, some, preprocess, some.size))
    for (const [name, t] of Object.entries(feeds)) {
      const range = ranges.get(name) ?? { low: Number.POSITIVE_INFINITY, high: Number.NEGATIVE_INFINITY }
      const values = t.toNumbers()
      for (let i = 0; i < values.length; i++) {
        range.low = Math.min(range.low, values[i]!)
        range.high = Math.max(range.high, values[i]!)
      }
      ranges.set(name, range)
    }
  const all = [...ranges]
  const what = `the first ${some.size} samples of ${set.name}`
  // a state beside other inputs may well be all zeros
  if (all.every(([, { low, high }]) => low === high) && some.size > 1)
    return `${what} are all alike: ${all.map(([name, { low }]) => `input '${name}' is ${low} throughout`).join(', ')}`
  const far = preprocess && all.find(([, { low, high }]) => Math.max(-low, high) > FAR && preprocess.scale > 1)
  if (!far) return null
  const [name, { low, high }] = far
  return `${what} give input '${name}' numbers from ${round(low)} to ${round(high)}: look at --mean, --std and --scale`
}
