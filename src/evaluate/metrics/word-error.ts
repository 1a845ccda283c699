/**
 * Word error rate: (substitutions + deletions + insertions) / words wanted, over all samples together, by the fewest such
 * edits. A word is a token; negative ones are padding and left out.
 */
import { editDistance } from '../../base/edit-distance.ts'
import { defineMetric } from './define-metric.ts'
import { tokensOf } from './scores.ts'

export const wordError = defineMetric({
  name: 'word-error',
  summary: 'word error rate: edits of the sequence of tokens per token wanted',
  better: 'lower',
  against: 'values',
  start(output) {
    let [edits, words] = [0, 0]
    return {
      add({ got, want }) {
        const wanted = Array.from(want).filter((t) => t >= 0)
        edits += editDistance(
          tokensOf(got, output, want.length).filter((t) => t >= 0),
          wanted,
        )
        words += wanted.length
        return undefined
      },
      result: () => ({ value: edits / Math.max(1, words), details: { edits, words } }),
    }
  },
})
