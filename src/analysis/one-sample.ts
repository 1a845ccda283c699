/**
 * A copy of a model as it treats one sample, functions inlined, at the opset that op definitions are written for, with
 * the type of every value that can be known: inferred by onnxruntime on a copy whose constants are folded (shapes are
 * often computed from constants), then, where a layer's shape is still open, seen by running the model once on zeros.
 *
 * Does not apply where onnxruntime refuses the model, or runs it at no size of its open dims: then types stay as the file
 * has them, and `warn` hears why.
 */
import { MncError } from '../errors.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Graph, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { byteLength, type Dim, elementCount, isStatic } from '../graph/types.ts'
import { WORKING_OPSET } from '../ops/define-op.ts'
import { findOp } from '../ops/index.ts'
import { inlineFunctions } from '../passes/inline-functions.ts'
import { runPass } from '../passes/manager.ts'
import { upgradeModelTo } from '../passes/upgrade-opset.ts'
import { inferTypes } from '../runtime/infer-types.ts'
import { ortExecutor } from '../runtime/ort.ts'
import { batchPlan, dimsAt } from '../samples/batch-plan.ts'
import { fedInputs, type InputDims, inputDims } from '../samples/input-shapes.ts'

type Warn = (message: string) => void

/** The copy; `model` stays as it is. */
export async function oneSample(model: Model, warn: Warn = () => {}): Promise<Model> {
  return (await typedSamples(model, warn)).model
}

export interface TypedSamples {
  /** The copy. */
  readonly model: Model
  /** Samples that it treats: 1 where it runs at that batch. */
  readonly samples: number
}

/** The same for models that run at another batch only, with that batch. */
export async function typedSamples(model: Model, warn: Warn = () => {}): Promise<TypedSamples> {
  const work = cloneModel(model)
  try {
    inlineFunctions(work)
    if (work.opset < WORKING_OPSET) upgradeModelTo(work, WORKING_OPSET)
    const dims = closedDims(work)
    if (!Object.values(dims).every(isStatic)) return await atWorkingSize(work, warn)
    let failed: MncError | null = null
    try {
      const copy = await typed(cloneModel(work), dims, warn)
      if (!isOpen(work)) return { model: copy, samples: await declaredSamples(work) }
      if (copy.graph.outputs.every((v) => v.type?.dims?.[0] === 1)) return { model: copy, samples: 1 }
    } catch (error) {
      if (!(error instanceof MncError)) throw error
      failed = error
    }
    // the graph may bake in a batch that its inputs leave open; inference overlooks that, or refuses
    const plan = constantBytes(work) > RUN_BYTES ? null : await batchPlan(work, 1).catch(() => null)
    if (failed && (!plan || plan.batch === 1)) throw failed
    return { model: await typed(work, plan ? dimsAt(plan, plan.batch) : dims, warn), samples: plan?.batch ?? 1 }
  } catch (error) {
    if (!(error instanceof MncError)) throw error
    warn(`shapes are not known: ${error.describe()}`)
    return { model: cloneModel(model), samples: 1 }
  }
}

/** Types for inputs of these dims; those that are not known stay open, and much else with them. Edits `work`. */
async function typed(work: Model, dims: InputDims, warn: Warn): Promise<Model> {
  for (const v of fedInputs(work)) if (v.type && dims[v.name]) v.setType({ elem: v.type.elem, dims: dims[v.name]! })
  const folded = cloneModel(work)
  openLarge(folded.graph)
  await runPass(folded, 'fold-constants')
  await inferTypes(folded)
  copyTypes(folded.graph, work.graph)
  await typesByRunning(work, warn)
  return work
}

/** The batch that the file fixes: the first dim of its inputs, unless that is a time, of one sample. */
async function declaredSamples(model: Model): Promise<number> {
  const first = Object.values(inputDims(model)).find((dims) => dims.length > 0)?.[0]
  if (typeof first !== 'number' || first === 1 || constantBytes(model) > RUN_BYTES) return 1
  const plan = await batchPlan(model, first, { reopen: true }).catch(() => null)
  return plan?.batch === first ? first : 1
}

/** No shape is computed from more: larger constants become inputs, so that nothing is folded that nobody asked for. */
const SHAPE_BYTES = 2 ** 20
/** Larger models are not run for their shapes: it would take several times their size of memory. */
const RUN_BYTES = 2 ** 28

function openLarge(graph: Graph): void {
  for (const v of [...graph.initializers()])
    if (v.constant!.byteLength > SHAPE_BYTES && v.constant!.type !== 'string') graph.initializerToInput(v)
}

const isOpen = (model: Model): boolean => !Object.values(inputDims(model)).every(isStatic)

/** Sizes of the file and of --dim and --input-shape; open first dims are 1, with every other dim of the same symbol. */
function closedDims(model: Model): InputDims {
  const known = inputDims(model)
  const batch = new Set<Dim>(Object.values(known).map((dims) => dims[0] ?? null))
  const close = (d: Dim, i: number): Dim => (typeof d !== 'number' && (i === 0 || (d && batch.has(d))) ? 1 : d)
  return Object.fromEntries(Object.entries(known).map(([name, list]) => [name, list.map(close)]))
}

/** Types at sizes of the open dims that run; `warn` hears which. */
async function atWorkingSize(work: Model, warn: Warn): Promise<TypedSamples> {
  let [dims, samples] = [closedDims(work), 1]
  if (constantBytes(work) > RUN_BYTES) warn('sizes of the inputs are open, and the model is too large to try some')
  else
    try {
      const plan = await batchPlan(work, 1)
      samples = plan.batch
      dims = dimsAt(plan, samples)
      const sizes = Object.entries(plan.sizes).map(([name, n]) => `${name} = ${n}`)
      warn(`open dims have the first size that runs: ${sizes.join(', ')} (--dim and --input-shape give others)`)
    } catch (error) {
      if (!(error instanceof MncError)) throw error
      warn(`sizes of the inputs are not known: ${error.describe()}`)
    }
  return { model: await typed(work, dims, warn), samples }
}

const constantBytes = (model: Model): number =>
  [...model.graph.initializers()].reduce((n, v) => n + v.constant!.byteLength, 0)

function copyTypes(from: Graph, to: Graph): void {
  for (const v of to.values()) {
    const type = v.producer && from.find(v.name)?.type
    if (type) v.setType(type)
  }
}

/** Runs the model on zeros for the shapes of known operators' operands and outputs that inference left open. */
async function typesByRunning(model: Model, warn: Warn): Promise<void> {
  const open = new Set<Value>()
  for (const n of model.graph.nodes())
    if (findOp(n))
      for (const v of [...n.inputs, ...n.outputs]) if (v && !v.constant && !isStatic(v.type?.dims ?? null)) open.add(v)
  const inputs = model.graph.inputs.filter((v) => !v.constant)
  if (open.size === 0 || !inputs.every((v) => isStatic(v.type?.dims ?? null))) return
  if (constantBytes(model) > RUN_BYTES) {
    warn(`the shapes of ${open.size} values are not known: the model is too large to run it for them`)
    return
  }
  const copy = cloneModel(model)
  for (const v of [...copy.graph.outputs]) copy.graph.removeOutput(v)
  for (const v of open) copy.graph.addOutput(copy.graph.find(v.name)!)
  const session = await ortExecutor().load(copy)
  try {
    const seen = await session.run(Object.fromEntries(inputs.map((v) => [v.name, zeros(v)])))
    for (const v of open) v.setType({ elem: seen[v.name]!.type, dims: seen[v.name]!.dims })
  } finally {
    await session.dispose()
  }
}

function zeros(v: Value): Tensor {
  const { elem } = v.type!
  return new Tensor(elem, v.dims, new Uint8Array(byteLength(elem, elementCount(v.dims))))
}
