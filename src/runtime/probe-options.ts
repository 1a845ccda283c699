/** How much time and memory probing a model may take (isolated/engine.ts). */
import { totalmem } from 'node:os'
import { optionTable } from '../base/options.ts'

export const probeOptions = optionTable({
  probeSeconds: {
    type: 'number',
    exclusiveMinimum: 0,
    default: 20,
    description: 'Time limit for each run of the model, in a separate process, that finds its shapes and constants',
  },
})

export interface ProbeLimits {
  /** For one answer. */
  readonly seconds: number
  /** Memory that the process may take. */
  readonly bytes: number
}

/** Half of the machine's memory, or of what this process may take. */
function defaultBytes(): number {
  const allowed = process.constrainedMemory() ?? 0
  return Math.floor((allowed > 0 ? Math.min(allowed, totalmem()) : totalmem()) / 2)
}

let limits: ProbeLimits = { seconds: probeOptions.probeSeconds.default, bytes: defaultBytes() }

export const probeLimits = (): ProbeLimits => limits

/** For the whole program, from the next run on. */
export function setProbeLimits(given: Partial<ProbeLimits>): void {
  limits = { ...limits, ...given }
}
