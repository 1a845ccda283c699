/**
 * A copy of a model as it processes one sample, functions inlined, packed products unpacked, at the opset that op definitions are written for, with
 * the type of every value that can be known: inferred by onnxruntime on a copy whose constants are folded (shapes are
 * often computed from constants), then, where a layer's shape is still open, seen by running the model once on zeros.
 *
 * Does not apply where onnxruntime refuses the model, or cannot run it at any size of its dynamic dims: then types stay
 * as the file has them, and `warn` is told why. Where onnxruntime fails in its separate process (it aborts, does not end,
 * takes all memory), what was known before stays.
 */
import { MncError } from '../base/errors.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Graph, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { byteLength, type Dim, elementCount, elementTypes, isStatic, sizeInBytes } from '../graph/types.ts'
import { findOp } from '../ops/index.ts'
import { unpackProducts } from '../ops/packed-product.ts'
import { toWorkingOpset } from '../ops/raise-opset.ts'
import { inlineFunctions } from '../passes/inline-functions.ts'
import { runPass } from '../passes/run-pass.ts'
import { isProbeFailure, loadIsolated } from '../runtime/isolated/engine.ts'
import { inferTypes } from '../runtime/isolated/infer-types.ts'
import { isReadable } from '../runtime/ort-session.ts'
import { type BatchPlan, batchPlan, dimsAt, type PlanOptions } from '../samples/batch-plan.ts'
import { type InputDims, inputDims } from '../samples/input-shapes.ts'

type Warn = (message: string) => void

/** The copy, in which inputs with a default are constants; `model` stays as it is. */
export async function oneSample(model: Model, warn: Warn = () => {}): Promise<Model> {
  return (await typedSamples(model, warn)).model
}

export interface TypedSamples {
  /** The copy. */
  readonly model: Model
  /** Samples that it processes: 1 where it runs at that batch. */
  readonly samples: number
}

/** The same for models that run at another batch only, with that batch. */
export async function typedSamples(model: Model, warn: Warn = () => {}): Promise<TypedSamples> {
  const work = cloneModel(model)
  work.graph.fixDefaults()
  try {
    inlineFunctions(work)
    unpackProducts(work.graph)
    toWorkingOpset(work)
    const dims = closedDims(work)
    if (!Object.values(dims).every(isStatic)) return await atWorkingSize(work, warn)
    let failed: MncError | null = null
    const copy = cloneModel(work)
    try {
      await typed(copy, dims, warn)
      if (!isOpen(work)) return { model: copy, samples: await declaredSamples(work, warn) }
      if (copy.graph.outputs.every((v) => v.type?.dims?.[0] === 1)) return { model: copy, samples: 1 }
    } catch (error) {
      if (!(error instanceof MncError)) throw error
      if (isProbeFailure(error)) return partlyTyped(copy, error, warn)
      failed = error
    }
    // the graph may bake in a batch that its inputs leave open; inference overlooks that, or fails
    const plan = constantBytes(work) > RUN_BYTES ? null : await planOrWarn(work, 1, {}, warn)
    if (failed && (!plan || plan.batch === 1)) throw failed
    return { model: await typed(work, plan ? dimsAt(plan, plan.batch) : dims, warn), samples: plan?.batch ?? 1 }
  } catch (error) {
    if (!(error instanceof MncError)) throw error
    if (isProbeFailure(error)) return partlyTyped(work, error, warn)
    warn(`shapes are unknown: ${error.describe()}`)
    const plain = cloneModel(model)
    plain.graph.fixDefaults()
    return { model: plain, samples: 1 }
  }
}

/** What is known when running the model ended its process or took too long. */
function partlyTyped(model: Model, error: MncError, warn: Warn): TypedSamples {
  warn(`some shapes are unknown: ${error.describe()}`)
  return { model, samples: 1 }
}

/** Types for inputs of these dims; those that are unknown stay open, and much else with them. Edits `work`. */
async function typed(work: Model, dims: InputDims, warn: Warn): Promise<Model> {
  for (const v of work.graph.fed) if (v.type && dims[v.name]) v.setType({ elem: v.type.elem, dims: dims[v.name]! })
  const folded = cloneModel(work)
  openLarge(folded.graph)
  await runPass(folded, 'fold-constants')
  await inferTypes(folded)
  copyTypes(folded.graph, work.graph)
  await typeFolded(work)
  await typesByRunning(work, warn)
  return work
}

/** null if no batch size was found at which the model runs; `warn` is told why if the process that tried was killed or took too long. */
async function planOrWarn(model: Model, asked: number, options: PlanOptions, warn: Warn): Promise<BatchPlan | null> {
  try {
    return await batchPlan(model, asked, options)
  } catch (error) {
    if (!(error instanceof MncError)) throw error
    if (isProbeFailure(error)) warn(`the batch size at which the model works is unknown: ${error.describe()}`)
    return null
  }
}

/** The batch that the file fixes: the first dim of its inputs, unless that is a time axis of one sample. */
async function declaredSamples(model: Model, warn: Warn): Promise<number> {
  const first = Object.values(inputDims(model)).find((dims) => dims.length > 0)?.[0]
  if (typeof first !== 'number' || first === 1 || constantBytes(model) > RUN_BYTES) return 1
  const plan = await planOrWarn(model, first, { reopen: true }, warn)
  return plan?.batch === first ? first : 1
}

/** No shape is computed from more: larger constants become inputs, so that nothing is folded unnecessarily. */
const SHAPE_BYTES = 2 ** 20
/** Models with larger values, or more constants, are not run for their shapes: it would take several times as much memory. */
const RUN_BYTES = 2 ** 28

function openLarge(graph: Graph): void {
  for (const v of [...graph.initializers()])
    if (v.constant!.byteLength > SHAPE_BYTES && v.constant!.type !== 'string') graph.initializerToInput(v)
}

const isOpen = (model: Model): boolean => !Object.values(inputDims(model)).every(isStatic)

/** Sizes of the file and of --dim and --input-shape; dynamic first dims are 1, with every other dim of the same symbol. */
function closedDims(model: Model): InputDims {
  const known = inputDims(model)
  const batch = new Set<Dim>(Object.values(known).map((dims) => dims[0] ?? null))
  const close = (d: Dim, i: number): Dim => (typeof d !== 'number' && (i === 0 || (d && batch.has(d))) ? 1 : d)
  return Object.fromEntries(Object.entries(known).map(([name, list]) => [name, list.map(close)]))
}

/** Types at sizes of the dynamic dims that run; `warn` is told which. */
async function atWorkingSize(work: Model, warn: Warn): Promise<TypedSamples> {
  let [dims, samples] = [closedDims(work), 1]
  if (constantBytes(work) > RUN_BYTES) warn('some input sizes are dynamic, and the model is too large to try out sizes')
  else
    try {
      const plan = await batchPlan(work, 1)
      samples = plan.batch
      dims = dimsAt(plan, samples)
      const sizes = Object.entries(plan.sizes).map(([name, n]) => `${name} = ${n}`)
      warn(`dynamic dims are given the first size that runs: ${sizes.join(', ')} (--dim and --input-shape set others)`)
    } catch (error) {
      if (!(error instanceof MncError)) throw error
      warn(`the sizes of the inputs are unknown: ${error.describe()}`)
    }
  return { model: await typed(work, dims, warn), samples }
}

const constantBytes = (model: Model): number =>
  [...model.graph.initializers()].reduce((n, v) => n + v.constant!.byteLength, 0)

/** Types for what folding took out of the copy: the parts of a weight's decoder. */
async function typeFolded(work: Model): Promise<void> {
  const untyped = [...work.graph.values()].filter((v) => v.producer && !v.type)
  if (untyped.length === 0) return
  const whole = cloneModel(work)
  openLarge(whole.graph)
  await inferTypes(whole)
  for (const v of untyped) v.setType(whole.graph.find(v.name)?.type ?? null)
}

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
      // what has no type here is not a tensor
      for (const v of [...n.inputs, ...n.outputs]) if (v?.type && !v.constant && !isStatic(v.type.dims)) open.add(v)
  const inputs = model.graph.fed
  if (open.size === 0 || !inputs.every((v) => isStatic(v.type?.dims ?? null))) return
  const largest = Math.max(...Array.from(model.graph.values(), (v) => sizeInBytes(v.type) ?? 0))
  if (constantBytes(model) > RUN_BYTES || largest > RUN_BYTES) {
    warn(`the shapes of ${open.size} values are unknown: the model is too large to be run to find them`)
    return
  }
  const copy = cloneModel(model)
  for (const v of [...copy.graph.outputs]) copy.graph.removeOutput(v)
  const b = copy.graph.append()
  // Shape has no kernel for types that cannot be read from onnxruntime, and Cast has
  const readable = (v: Value): Value =>
    isReadable(v.type!.elem) ? v : b.op('Cast', [v], { to: elementTypes.float32.code })
  const shapes = new Map([...open].map((v) => [v, b.op('Shape', [readable(copy.graph.find(v.name)!)])]))
  for (const v of shapes.values()) copy.graph.addOutput(v)
  const session = await loadIsolated(copy, { optimization: 'disabled' })
  try {
    const seen = await session.run(Object.fromEntries(inputs.map((v) => [v.name, zeros(v)])))
    for (const [v, shape] of shapes) v.setType({ elem: v.type!.elem, dims: Array.from(seen[shape.name]!.toNumbers()) })
  } finally {
    await session.dispose()
  }
}

function zeros(v: Value): Tensor {
  const { elem } = v.type!
  return new Tensor(elem, v.dims, new Uint8Array(byteLength(elem, elementCount(v.dims))))
}
