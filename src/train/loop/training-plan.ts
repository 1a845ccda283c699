/**
 * How a student and its teacher take samples in one step graph: any batch if both run at any, else the one batch that one
 * of them needs. Batches that the files only declare are rewritten.
 */
import { modelError } from '../../base/errors.ts'
import { ArraySet } from '../../data/array-set.ts'
import { imagePlan } from '../../data/image-plan.ts'
import { samplePlan } from '../../data/sample-set.ts'
import type { Model } from '../../graph/model.ts'
import { type BatchPlan, batchPlan } from '../../samples/batch-plan.ts'
import type { TrainRun } from './train-run.ts'

/** `batch`: samples wanted in one run. A model error where student and teacher run at different batches only. */
export async function trainingPlan(
  student: Model,
  { data, teacher, preprocess }: Pick<TrainRun, 'data' | 'teacher' | 'preprocess'>,
  batch: number,
): Promise<BatchPlan> {
  const reopen = true
  const own = preprocess
    ? await imagePlan(student, preprocess, batch, { reopen })
    : data instanceof ArraySet
      ? await samplePlan(student, data, undefined, batch, { reopen })
      : await batchPlan(student, batch, { reopen })
  const inputs = teacher ? teacher.model.graph.fed : []
  if (!teacher || inputs.length !== own.inputs.size) return own
  const pixels = teacher.preprocess ?? preprocess
  const theirs = pixels
    ? await imagePlan(teacher.model, pixels, batch, { reopen })
    : await batchPlan(teacher.model, batch, { reopen, dims: dimsFor(teacher.model, own) })
  if (!theirs.isFixed || (own.isFixed && own.batch === theirs.batch)) return own
  if (!own.isFixed) return { ...own, batch: theirs.batch, isFixed: true }
  throw modelError(
    'teacher-batch',
    `the student runs only at batch size ${own.batch} and the teacher only at ${theirs.batch}, but one step runs both`,
  )
}

/** The student's sizes, by the teacher's inputs: matched by position, the batch left open. */
function dimsFor(teacher: Model, { inputs }: BatchPlan) {
  const own = [...inputs.values()]
  return Object.fromEntries(
    teacher.graph.fed.map((v, k) => {
      const { dims, axes } = own[k]!
      return [v.name, dims.map((d, i) => (axes.includes(i) ? 'N' : d))]
    }),
  )
}
