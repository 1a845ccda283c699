/**
 * Cosine between what the model returns and what is wanted, y t / (|y| |t|), the mean over samples and the least. Two
 * zero vectors are equal, cosine 1; one of them has none, 0.
 */
import { defineMetric } from './define-metric.ts'
import { differentLength } from './lengths.ts'

export const cosine = defineMetric({
  name: 'cosine',
  summary: 'cosine to what is wanted, or to the reference',
  better: 'higher',
  against: 'values',
  start() {
    let [sum, count, least] = [0, 0, 1]
    return {
      add({ got, want }) {
        let [dot, own, other] = [0, 0, 0]
        for (let i = 0; i < want.length; i++) {
          dot += got[i]! * want[i]!
          own += got[i]! ** 2
          other += want[i]! ** 2
        }
        const cos = own === 0 && other === 0 ? 1 : own === 0 || other === 0 ? 0 : dot / Math.sqrt(own * other)
        sum += cos
        count++
        if (!(cos >= least)) least = cos
        return differentLength(got, want)
      },
      result: () => ({ value: sum / Math.max(1, count), details: { least } }),
    }
  },
})
