/** Every metric, in the order in which help lists them; behind them the user's own. */
import { Registry } from '../../base/registry.ts'
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

const builtIn: readonly MetricDef[] = [
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

export const metricRegistry = new Registry('metric', builtIn, (m) => [m.name])
/** Every metric that there is, the configuration's own too. */
export const metrics = metricRegistry.all
