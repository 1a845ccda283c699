/** Mean squared error over all numbers of an output: sum (y - t)^2 / n. */
import { defineMetric } from './define-metric.ts'
import { differentLength } from './lengths.ts'

export const mse = defineMetric({
  name: 'mse',
  summary: 'mean squared error',
  better: 'lower',
  against: 'values',
  start() {
    let [squares, absolute, count] = [0, 0, 0]
    return {
      add({ got, want }) {
        for (let i = 0; i < want.length; i++) {
          const d = got[i]! - want[i]!
          squares += d * d
          absolute += Math.abs(d)
        }
        count += want.length
        return differentLength(got, want)
      },
      result: () => ({
        value: squares / Math.max(1, count),
        details: { rmse: Math.sqrt(squares / Math.max(1, count)), mae: absolute / Math.max(1, count) },
      }),
    }
  },
})
