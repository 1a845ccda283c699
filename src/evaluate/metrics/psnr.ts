/**
 * Peak signal-to-noise ratio in dB, the mean over samples of 10 log10(peak^2 / MSE of the sample). The peak is 1 where all
 * that is wanted lies within 0..1, else 255. Samples that are equal have no ratio: they are counted, and left out.
 */
import { defineMetric } from './define-metric.ts'
import { differentLength } from './lengths.ts'

export const psnr = defineMetric({
  name: 'psnr',
  summary: 'peak signal-to-noise ratio in dB, for images of 0..1 or 0..255',
  better: 'higher',
  against: 'values',
  start() {
    let [logs, different, equal] = [0, 0, 0]
    let isUnit = true
    return {
      add({ got, want }) {
        let squares = 0
        for (let i = 0; i < want.length; i++) {
          squares += (got[i]! - want[i]!) ** 2
          if (want[i]! > 1) isUnit = false
        }
        if (squares === 0) equal++
        else {
          logs += Math.log10(squares / want.length)
          different++
        }
        return differentLength(got, want)
      },
      result() {
        const peak = isUnit ? 1 : 255
        const value = different === 0 ? Number.POSITIVE_INFINITY : 20 * Math.log10(peak) - (10 * logs) / different
        return { value, details: { peak, equal } }
      },
    }
  },
})
