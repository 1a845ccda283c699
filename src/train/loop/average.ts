/**
 * Exponential moving average of weights and running statistics (Polyak averaging), as torch.optim.swa_utils defines it:
 *
 *   the first update copies;   then  average = decay average + (1 - decay) now
 *
 * What is evaluated and written is the average; what is trained on is not. Masks and quantiser scales that the host
 * moves stay those of the weights in training.
 */
import type { StepRunner } from '../step/step-runner.ts'

const STATE = ['weights', 'statistics'] as const
/** Names of the averages in a checkpoint. */
const PREFIX = 'average/'

export class WeightAverage {
  readonly #decay: number
  readonly #average = new Map<string, Float32Array>()

  constructor(decay: number) {
    this.#decay = decay
  }

  /** After each step. */
  update(runner: StepRunner): void {
    for (const name of STATE) {
      if (name === 'statistics' && runner.graph.statistics.size === 0) continue
      const now = runner.vector(name)
      const average = this.#average.get(name)
      if (average) blend(average, now, this.#decay)
      else this.#average.set(name, now.slice())
    }
  }

  /** The averaged vector; what is in training where no step has been done. */
  vector(name: string, runner: StepRunner): Float32Array {
    return this.#average.get(name) ?? runner.vector(name)
  }

  /** The vectors for a checkpoint. */
  state(): [string, Float32Array][] {
    return [...this.#average].map(([name, values]) => [PREFIX + name, values])
  }

  restore(vectors: ReadonlyMap<string, Float32Array>): void {
    for (const name of STATE) {
      const values = vectors.get(PREFIX + name)
      if (values) this.#average.set(name, values.slice())
    }
  }
}

function blend(average: Float32Array, now: Float32Array, decay: number): void {
  for (let i = 0; i < average.length; i++) average[i] = now[i]! + decay * (average[i]! - now[i]!)
}
