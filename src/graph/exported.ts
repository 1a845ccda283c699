/** What an export says of itself: the format that it was written in, which `mnc export` notes in its metadata. */
import { modelError } from '../base/errors.ts'
import { marks } from './marks.ts'
import type { Model } from './model.ts'

/** Formats whose weights are floats. */
const FLOATS = ['float', 'float16']

/** A model error for an export: its weights are integers, or decoded from bits, and have no gradient. */
export function refuseToTrain(model: Model): void {
  const format = marks.export.get(model)
  if (format === undefined) return
  throw modelError(
    'exported',
    `the model is an export (${format}): its weights are stored as integers and cannot be trained`,
    { next: 'train the graph that it was exported from, then export that again' },
  )
}

/** The model itself; a model error for an export of integers: quantised again it would be rounded twice, and grow. */
export function quantisable(model: Model): Model {
  const format = marks.export.get(model)
  if (format === undefined || FLOATS.includes(format)) return model
  throw modelError('already-quantized', `the model is an export (${format}), which is quantised already`, {
    next: 'start from the float model; mnc does not quantise twice',
  })
}
