/**
 * Word error rate: (substitutions + deletions + insertions) / words wanted, over all samples together, by the fewest such
 * edits (Levenshtein, 1966). A word is a token; negative ones are padding and left out.
 */
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
        edits += distance(
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

function distance(a: readonly number[], b: readonly number[]): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)))
    row = next
  }
  return row[b.length]!
}
