/** The candidates that are the same for every layer, in the order in which they are tried. */

import type { TargetDef } from '../export/targets/target.ts'
import type { Effort } from '../ptq/ptq-options.ts'
import type { Candidate } from './candidate.ts'
import type { Asked } from './choose.ts'

/** The same for all layers. */
export function uniform(weightBits: number, activationBits: number, { effort, sparsity = 0 }: Rest): Candidate {
  const percent = Number((100 * sparsity).toFixed(1))
  const [zeros, text] = sparsity > 0 ? [`-s${percent}`, `${percent} % zeros, `] : ['', '']
  const [trained, said] = effort === 'fast' ? ['', ''] : ['-trained', ', trained without labels']
  return {
    name: `w${weightBits}a${activationBits}${zeros}${trained}`,
    summary: `${text}${weightBits}-bit weights, ${activationBits}-bit activations${said}`,
    options: { weightBits, activationBits, ...(sparsity > 0 && { sparsity }), ...(effort && { effort }) },
  }
}

interface Rest {
  readonly effort?: Effort | undefined
  readonly sparsity?: number
}

/**
 * Rungs, from the mildest on, until a score is met; of each the second candidate is made only where the first is not good enough. `widest` bits of
 * weights first: nearly free without any training, and what integer kernels take. Fewer bits of weights make files smaller; fewer of
 * activations change nothing but the score.
 */
export function ladderFor(
  { aim }: TargetDef,
  { goal }: Asked,
  effort: Effort,
  widest: 7 | 8,
): readonly (readonly Candidate[])[] {
  const rung = (weightBits: number, activationBits: number, sparsity = 0): readonly Candidate[] => [
    uniform(weightBits, activationBits, { effort: 'fast', sparsity }),
    ...(effort === 'fast' ? [] : [uniform(weightBits, activationBits, { sparsity })]),
  ]
  // at 4 bits nothing comes back without training
  const low = (weightBits: number, activationBits: number, sparsity = 0) =>
    rung(weightBits, activationBits, sparsity).slice(-1)
  if (goal?.kind === 'score')
    return [rung(widest, 8), low(4, 8), low(4, 4), ...[0.5, 0.75, 0.9].map((sparsity) => low(4, 4, sparsity))]
  if (goal?.kind === 'bytes' || aim === 'bytes') return [rung(widest, 8), low(4, 8)]
  return [rung(widest, 8)]
}
