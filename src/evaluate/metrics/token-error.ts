/** Share of positions at which another token is answered than wanted. Negative tokens are padding and do not count. */
import { defineMetric } from './define-metric.ts'
import { tokensOf } from './scores.ts'

export const tokenError = defineMetric({
  name: 'token-error',
  summary: 'share of wrong tokens, position by position',
  better: 'lower',
  against: 'values',
  start(output) {
    let [wrong, count] = [0, 0]
    return {
      add({ got, want }) {
        const tokens = tokensOf(got, output, want.length)
        if (tokens.length !== want.length)
          return `the model answers ${tokens.length} tokens per sample and ${want.length} are wanted; word-error compares sequences of any length`
        for (let i = 0; i < want.length; i++) {
          if (!(want[i]! >= 0)) continue
          count++
          if (tokens[i] !== want[i]) wrong++
        }
        return undefined
      },
      result: () => ({ value: wrong / Math.max(1, count), details: { wrong, tokens: count } }),
    }
  },
})
