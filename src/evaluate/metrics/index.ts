/** Every metric, in the order in which help lists them. */
import { accuracy } from './accuracy.ts'
import { confusion } from './confusion.ts'
import { cosine } from './cosine.ts'
import type { MetricDef } from './define-metric.ts'
import { f1 } from './f1.ts'
import { meanAveragePrecision } from './map.ts'
import { mse } from './mse.ts'
import { perClass } from './per-class.ts'
import { psnr } from './psnr.ts'
import { tokenError } from './token-error.ts'
import { wordError } from './word-error.ts'

export const metrics: readonly MetricDef[] = [
  accuracy,
  perClass,
  confusion,
  f1,
  mse,
  psnr,
  cosine,
  tokenError,
  wordError,
  meanAveragePrecision,
]
