/**
 * The variance of a teacher's outputs, by which nmse divides: over all elements of the first batches of a run, so that it
 * means something for an output of width 1 and a batch of one, and is the same in every step. An output that does not
 * vary there is divided by its mean square, one that is always zero by 1.
 */
import { modelError } from '../../base/errors.ts'
import type { Model } from '../../graph/model.ts'
import type { Executor } from '../../runtime/executor.ts'
import { widened } from '../step/step-runner.ts'
import type { BatchSource } from './batch-source.ts'

/** Enough of either for a variance accurate to a few percent; a batch of one on a large network costs a few steps. */
const SAMPLES = 64
const BATCHES = 8

/** Below this fraction of the mean square a variance is rounding. */
const ROUNDING = 1e-9

/** A variance for each output of `teacher`, which reads what the batches of `source` hold, images as `inputName`. */
export async function measureVariances(
  teacher: Model,
  inputName: string,
  source: BatchSource,
  executor: Executor,
): Promise<number[]> {
  const names = teacher.graph.outputs.map((v) => v.name)
  const sums = names.map(() => new Moments())
  const session = await executor.load(teacher)
  let [samples, batches] = [0, 0]
  try {
    for await (const { parts, count } of source.batches(0, Math.min(BATCHES, source.stepsPerEpoch))) {
      for (const { images, others } of parts) {
        const fed = Object.entries({ ...others, [inputName]: images })
        const read = fed.filter(([name]) => session.inputNames.includes(name)).map(([name, t]) => [name, widened(t)])
        const out = await session.run(Object.fromEntries(read))
        names.forEach((name, i) => {
          sums[i]!.add(out[name]!.toNumbers())
        })
      }
      samples += count
      if (++batches >= BATCHES || samples >= SAMPLES) break
    }
  } finally {
    await session.dispose()
  }
  return sums.map((s, i) => {
    const variance = s.scale()
    if (Number.isFinite(variance)) return variance
    throw modelError('teacher-not-finite', `the teacher's output '${names[i]}' contains non-finite values`, {
      blame: 'user',
      next: 'leave the output out with --loss-weight NAME=0',
    })
  })
}

/** Mean and variance of a stream, by Chan's rule for two parts. */
class Moments {
  #count = 0
  #mean = 0
  #squares = 0

  add(values: ArrayLike<number>): void {
    const n = values.length
    if (n === 0) return
    let mean = 0
    for (let i = 0; i < n; i++) mean += values[i]! / n
    let squares = 0
    for (let i = 0; i < n; i++) squares += (values[i]! - mean) ** 2
    const total = this.#count + n
    const apart = mean - this.#mean
    this.#squares += squares + (apart * apart * this.#count * n) / total
    this.#mean += (apart * n) / total
    this.#count = total
  }

  /** What squared errors are divided by. */
  scale(): number {
    const variance = this.#squares / Math.max(1, this.#count)
    const square = variance + this.#mean ** 2
    return variance > ROUNDING * square || Number.isNaN(variance) ? variance : square || 1
  }
}
