/** The candidates that are the same for every layer, in the order in which they are tried. */

import type { TargetDef } from '../export/targets/target.ts'
import type { Effort } from '../ptq/ptq-options.ts'
import type { Candidate } from './candidate.ts'
import type { Asked } from './choose.ts'

const uniform = (weightBits: number, activationBits: number, effort?: Effort): Candidate => ({
  name: `w${weightBits}a${activationBits}${effort === 'fast' ? '' : '-trained'}`,
  summary: `${weightBits}-bit weights, ${activationBits}-bit activations${effort === 'fast' ? '' : ', trained without labels'}`,
  options: { weightBits, activationBits, ...(effort && { effort }) },
})

/**
 * Rungs, from the mildest on; of each the second candidate is made only where the first is not good enough. 8 bits first:
 * nearly free without any training, and what integer kernels take. Fewer bits of weights make files smaller; fewer of
 * activations change nothing but the score.
 */
export function ladderFor({ aim }: TargetDef, { goal }: Asked, effort: Effort): readonly (readonly Candidate[])[] {
  const rung = (weightBits: number, activationBits: number): readonly Candidate[] => [
    uniform(weightBits, activationBits, 'fast'),
    ...(effort === 'fast' ? [] : [uniform(weightBits, activationBits)]),
  ]
  // at 4 bits nothing comes back without training
  const low = (weightBits: number, activationBits: number) => rung(weightBits, activationBits).slice(-1)
  if (goal?.kind === 'score') return [rung(8, 8), low(4, 8), low(4, 4)]
  if (goal?.kind === 'bytes' || aim === 'bytes') return [rung(8, 8), low(4, 8)]
  return [rung(8, 8)]
}
