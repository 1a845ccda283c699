/** Prepares a teacher network to be merged into a student's step: inference form, same opset, its own pixels. */
import { usageError } from '../../base/errors.ts'
import type { Preprocess } from '../../data/preprocess.ts'
import { cloneModel } from '../../graph/clone.ts'
import type { Model } from '../../graph/model.ts'
import { useRunningStatistics } from '../../layers/training-mode.ts'
import { toWorkingOpset } from '../../ops/raise-opset.ts'
import { applyPass } from '../../pass-manager/manager.ts'
import { foldBn } from '../../passes/fold-bn.ts'
import { inlineFunctions } from '../../passes/inline-functions.ts'
import type { InputAdapter } from '../../passes/merge-teacher.ts'
import { widenFloats } from '../../passes/widen-floats.ts'

/** A copy in the working opset; BN folded unless the teacher normalises by batch statistics. */
export async function prepareTeacher(teacher: Model, batchStatistics: boolean): Promise<Model> {
  const copy = cloneModel(teacher)
  copy.graph.fixDefaults()
  inlineFunctions(copy)
  widenFloats(copy)
  toWorkingOpset(copy)
  useRunningStatistics(copy)
  if (!batchStatistics) await applyPass(copy, foldBn, {})
  for (const v of copy.graph.inputs)
    if (v.type?.dims && v.type.dims.length > 0) v.setType({ elem: v.type.elem, dims: [null, ...v.type.dims.slice(1)] })
  return copy
}

/**
 * What turns the student's input into the teacher's, where they are scaled or sized differently:
 * pixel / scale = x std + mean for both, so  x_t = x_s (std_s scale_s / std_t scale_t) + (mean_s scale_s / scale_t - mean_t) / std_t.
 */
export function adapterBetween(student: Preprocess, teacher: Preprocess): InputAdapter | undefined {
  if (student.layout !== teacher.layout || student.mean.length !== teacher.mean.length)
    throw usageError(
      `the student reads ${student.layout} images with ${student.mean.length} channels, but the teacher does not`,
    )
  const ratio = student.scale / teacher.scale
  const scale = student.std.map((s, i) => (s * ratio) / teacher.std[i]!)
  const shift = student.mean.map((m, i) => (m * ratio - teacher.mean[i]!) / teacher.std[i]!)
  const size = student.size.join() === teacher.size.join() ? undefined : teacher.size
  const same = scale.every((s) => Math.abs(s - 1) < 1e-7) && shift.every((s) => Math.abs(s) < 1e-7) && !size
  return same ? undefined : { scale, shift, size, layout: student.layout }
}
