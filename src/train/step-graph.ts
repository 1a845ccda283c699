/**
 * Builds the training step: one ONNX graph that holds the student's forward pass in training form, the teacher, the loss,
 * the backward pass and the optimiser's update. Any executor that knows the standard operators runs it.
 *
 *   inputs   <student input>  [batch, ...]     targets [batch, classes] (one-hot, where a label loss is used)
 *            weights [P]  statistics [S]  host [H]  <optimiser slots> [P]   lr, ... (scalars)
 *            loss_scale (scalar, in mixed precision: mixed-precision.ts)
 *   outputs  loss  losses (of each output, where several are taught)  logits
 *            teacher_entropy (where a loss compares distributions)  gradient_norm  next_weights [P]  next_statistics [S]  next_<slot> [P]  gradient [P]
 *
 * Where gradients are accumulated over K micro-batches, the step takes `accumulated` [P] in place of the optimiser's
 * slots and gives next_accumulated = accumulated + gradient / K; a second graph does the update after the K-th.
 *
 * P, S, H: flat layouts (flat-layout.ts) of the parameters, the running statistics, and the constants that the host
 * changes between steps (masks, quantiser steps).
 */
import { bugError, type MncError, modelError } from '../errors.ts'
import type { Builder } from '../graph/builder.ts'
import { cloneModel } from '../graph/clone.ts'
import { Graph, type Node, type Value } from '../graph/graph.ts'
import { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { isStatic, type TensorType } from '../graph/types.ts'
import { WORKING_OPSET } from '../ops/define-op.ts'
import { differentiate, GRADIENT_KEY, requireGradients, STRAIGHT_THROUGH } from '../passes/autodiff.ts'
import { removeDead } from '../passes/eliminate-dead.ts'
import { useRunningStatistics } from '../passes/infer-bn.ts'
import { PRUNE_MASK, ROLE_KEY, weightLayers } from '../passes/layers.ts'
import { lowerCostly } from '../passes/lower-costly.ts'
import { lowerFakeQuant } from '../passes/lower-fake-quant.ts'
import { runPass } from '../passes/manager.ts'
import { attachTeacher, type InputAdapter } from '../passes/merge-teacher.ts'
import { trainableParameters } from '../passes/parameters.ts'
import type { Watch } from '../passes/seen-shapes.ts'
import { settleShapes } from '../passes/settle-shapes.ts'
import { upgradeModelTo } from '../passes/upgrade-opset.ts'
import { widenFloats } from '../passes/widen-floats.ts'
import { inferTypes } from '../runtime/infer-types.ts'
import { centreConvolutions, type NormLayer, normNodes, useBatchStatistics } from './batch-statistics.ts'
import { FlatLayout } from './flat-layout.ts'
import { boundShrink, gradientFactor, learnableScales } from './learned-scales.ts'
import {
  classesIn,
  type Decided,
  decide,
  type Exercise,
  emitLessons,
  isDivergence,
  type Lesson,
  type LossOptions,
  labelled,
  partnersOf,
  type Source,
  type Subject,
  sourcesOf,
  subjectsOf,
} from './lessons.ts'
import { teacherEntropy } from './losses.ts'
import { narrowStep } from './mixed-precision.ts'
import { emitUpdate, type Factor, hyperInputsOf, type OptimizerOptions, slotsOf } from './optimizers.ts'
import { freeReservedNames, nameOf } from './step-names.ts'
import { partFor } from './teacher-variance.ts'
import { nodesToTile, type Tiles, tileBatch } from './tile-batch.ts'
import { watchOnRandom } from './watch.ts'

export interface StepOptions extends LossOptions {
  /** Images in one run of the step graph. */
  readonly batch: number
  /** Dims of the model's inputs by name, batch included; needed for models with several, or open dims beside the batch. */
  readonly inputDims?: Readonly<Record<string, readonly number[]>> | undefined
  /** Runs of the step graph that one update averages over; 1 by default. */
  readonly accumulate?: number | undefined
  readonly optimizer: OptimizerOptions
  readonly teacher?: TeacherOptions | undefined
  /** false: BatchNormalization keeps normalising by its running statistics. */
  readonly batchStatistics: boolean
  /** Parts that the batch is worked on in (tile-batch.ts); chosen by the sizes of activations where absent. */
  readonly tiles?: number | undefined
  /** Train the quantiser steps too (LSQ). */
  readonly learnScales: boolean
  /** float16: what it is enough for computes in it (mixed-precision.ts). */
  readonly precision?: 'float32' | 'float16' | undefined
  /** Factors on the weight decay and learning rate of each parameter, by initializer name. */
  readonly weightDecayOf?: ((name: string) => number) | undefined
  readonly learningRateOf?: ((name: string) => number) | undefined
}

export interface TeacherOptions {
  /** In inference form, lifted to WORKING_OPSET, BN folded where that is wanted. */
  readonly model: Model
  readonly adapter?: InputAdapter | undefined
  /** Normalise the teacher by batch statistics (the published way) instead of its running ones. */
  readonly batchStatistics: boolean
  /**
   * The variance of each output of this part of the step, which reads the step's own inputs (teacher-variance.ts); asked
   * where a loss divides by it.
   */
  readonly variances?: ((part: Model, inputName: string) => Promise<readonly number[]>) | undefined
}

export interface StepGraph {
  readonly model: Model
  /** The optimiser's update, where gradients are accumulated; part of `model` otherwise. */
  readonly update: Model | null
  readonly inputName: string
  readonly inputDims: readonly number[]
  readonly weights: FlatLayout
  readonly statistics: FlatLayout
  /** Constants that the host may change between steps. */
  readonly host: FlatLayout
  readonly slots: readonly string[]
  /** The loss is multiplied by the input `loss_scale`. */
  readonly lossScaled: boolean
  /** What each output is taught; `losses` has their shares. */
  readonly lessons: readonly Lesson[]
  /** Of the logits, batch included, where known. */
  readonly outputDims: readonly number[] | null
  /** Classes of the output, where a label loss is used. */
  readonly classes: number | null
}

/** Names of initializers that the host may change between steps, e.g. masks that are recomputed. */
export type HostSelector = (name: string) => boolean

export async function buildStep(student: Model, options: StepOptions, isHost: HostSelector): Promise<StepGraph> {
  const model = cloneModel(student)
  const { graph } = model
  freeReservedNames(graph)
  graph.fixDefaults()
  const input = options.inputDims ? graph.fed[0]! : soleInput(graph)
  fixInputs(graph, options.inputDims ?? {})
  widenFloats(model)
  if (model.opset < WORKING_OPSET) upgradeModelTo(model, WORKING_OPSET)
  useRunningStatistics(model)
  for (const n of graph.nodes())
    if (n.metadata.get(ROLE_KEY) === PRUNE_MASK) n.metadata.set(GRADIENT_KEY, STRAIGHT_THROUGH)
  const learned = options.learnScales ? learnableScales(graph) : []
  const trained = trainableParameters(graph)
  const host = [...graph.initializers()].filter((v) => v.constant?.type === 'float32' && isHost(nameOf(v)))
  await runPass(model, lowerFakeQuant, { learnScales: options.learnScales })
  const scales = new Map(learned.filter((l) => !l.dequantize.attached).map((l) => [nameOf(l.scale), l]))
  const isLeft = (v: Value): boolean => v.isUsed && v.constant !== null
  const learnedSteps = [...scales.values()].map((l) => l.scale).filter(isLeft)
  const weightsLeft = trained.filter(isLeft)
  // quantiser steps alone are not what anybody means by training
  if (weightsLeft.length === 0) throw nothingToTrain(graph)
  const parameters = [...weightsLeft, ...learnedSteps]

  const subjects = subjectsOf(graph, options, options.teacher !== undefined)
  const own = subjects.map((s) => s.head.value)
  requireGradients(graph, parameters, own)
  const trainedNorms = options.batchStatistics ? normNodes(graph) : []
  const teacherNorms: Node[] = []
  let partners: ReadonlyMap<Subject, Source> = new Map()
  if (options.teacher) {
    const before = new Set(graph.nodes())
    const copies = attachTeacher(model, options.teacher.model, options.teacher.adapter)
    partners = partnersOf(subjects, sourcesOf(options.teacher.model.graph.outputs, copies))
    if (options.teacher.batchStatistics)
      for (const n of graph.nodes()) if (!before.has(n) && n.op === 'BatchNormalization') teacherNorms.push(n)
  }
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  const compared = [...new Set([...own, ...Array.from(partners.values(), (p) => p.head.value)])]
  for (const v of compared) graph.addOutput(v)
  removeDead(graph)

  const b = graph.prepend()
  // without what only dead nodes read
  const stepNames = new Set(learnedSteps.filter(isLeft).map(nameOf))
  const weights = unpacked(b, graph, parameters.filter(isLeft), 'weights')
  const hostConstants = unpacked(
    b,
    graph,
    host.filter((v) => v.isUsed && v.constant),
    'host',
  )
  const tiles = await tiled(
    model,
    input,
    options,
    watchOnRandom(() => stateOf(student.graph, { weights, host: hostConstants })),
  )
  const norms = useBatchStatistics(trainedNorms, tiles)
  const statistics = runningStatistics(norms)
  const running = statistics.size > 0 ? graph.addInput('statistics', vector(statistics)) : null
  const centred = running ? centreConvolutions(norms, statistics, running, tiles) : new Set<string>()
  useBatchStatistics(teacherNorms, tiles)
  graph.sort()
  // what took their place since
  const now = new Map([...graph.outputs].map((v, i) => [compared[i]!, v]))
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  const lessons = decide(exercisesOf(subjects, partners, now), options)
  const logits = labelled(lessons).student
  const variances = await variancesOf(model, input.name, lessons, options)

  const tail = graph.append()
  const shares = emitLessons(tail, lessons, options, variances)
  const loss = total(tail, shares.flat())
  const losses =
    shares.length > 1
      ? tail.op(
          'Concat',
          shares.map((terms) => tail.op('Reshape', [total(tail, terms), tail.ints([1])])),
          { axis: 0 },
        )
      : null
  const entropy = entropyOf(tail, lessons, options)
  const results = [loss, losses, entropy].filter((v) => v !== null)
  for (const v of results) graph.addOutput(v)
  await inferTypes(model)
  for (const v of results) graph.removeOutput(v)
  const mixed = options.precision === 'float16'
  const lossScale = mixed ? graph.addInput('loss_scale', { elem: 'float32', dims: [] }) : null
  const gradients = differentiate(model, new Map([[loss, lossScale ?? tail.scalar(1)]]), weights.values)
  lowerCostly(graph)
  if (mixed) await narrowBetween(model, [loss, ...(losses ? [losses] : []), logits, ...gradients.values()])
  const outputDims = isStatic(logits.type?.dims ?? null) ? logits.dims : null
  const gradientOf = (v: Value, name: string): Value | null => {
    const g = gradients.get(v) ?? null
    const step = scales.get(name)
    return g && step ? graph.append().op('Mul', [g, graph.append().scalar(gradientFactor(step))]) : g
  }
  const parts = weights.values.map((v, i) => gradientOf(v, weights.layout.entries[i]!.name))
  const scaled = weights.layout.concat(graph.append(), parts, lossScale ? 'scaled_gradient' : 'gradient')
  const gradient = lossScale ? graph.append().op('Div', [scaled, lossScale], {}, { name: 'gradient' }) : scaled
  name(graph, loss, 'loss')
  if (losses) name(graph, losses, 'losses')
  if (entropy) name(graph, entropy, 'teacher_entropy')
  name(graph, logits, 'logits')
  const update = emitUpdates(graph, withoutDecay(options, scales), weights, gradient, stepNames)
  if (running) emitStatistics(norms, statistics, running, centred)
  graph.addOutput(gradient)
  removeDead(graph)
  return {
    model,
    update,
    inputName: input.name,
    inputDims: input.dims,
    weights: weights.layout,
    statistics,
    host: hostConstants.layout,
    slots: slotsOf(options.optimizer.optimizer),
    lossScaled: mixed,
    lessons: lessons.map(({ subject, loss, axis }) => ({ output: subject.name, loss, axis, weight: subject.weight })),
    outputDims,
    classes: graph.inputs.find((v) => v.name === 'targets')?.dims[1] ?? null,
  }
}

/** Mixed precision for all that makes these values, which stay in float32 themselves. */
async function narrowBetween(model: Model, results: readonly Value[]): Promise<void> {
  const { graph } = model
  const added = [...new Set(results)].filter((v) => !v.isOutput)
  for (const v of added) graph.addOutput(v)
  removeDead(graph)
  await inferTypes(model)
  narrowStep(model)
  for (const v of added) graph.removeOutput(v)
}

/** Says what the weights are where none of them can be trained. */
function nothingToTrain(graph: Graph): MncError {
  const [layer] = weightLayers(graph)
  const integers = layer && !layer.tensor.type.includes('float')
  const next = !layer
    ? 'it has no layers with constant weights at all'
    : integers
      ? `its weights are ${layer.tensor.type} (quantised by another tool): start from the float model`
      : 'look for frozen parts with `mnc info`'
  return modelError('nothing-to-train', 'the model has no trainable float weight', { next })
}

/** Activations above this are worked on in tiles, each about as large or smaller; measured, see tile-batch.ts. */
const TILE_BYTES = 8 * 2 ** 20
const MAX_TILES = 4

/** Fixes the batch, types the graph, and tiles the part of it that has large activations. */
async function tiled(
  model: Model,
  input: Value,
  { batch, inputDims, tiles: asked }: StepOptions,
  watch: Watch,
): Promise<Tiles | null> {
  if (!inputDims?.[nameOf(input)]) fixBatch(input, batch)
  await settleShapes(model, watch)
  if (Object.keys(inputDims ?? {}).length > 1) return null
  const chosen = nodesToTile(model.graph, input, batch, TILE_BYTES)
  const tiles = chosen.size === 0 ? 1 : (asked ?? divisorUpTo(batch, MAX_TILES))
  if (tiles <= 1) return null
  const whole = new Map([...model.graph.values()].map((v) => [v, v.type]))
  fixBatch(input, batch / tiles)
  let done: Tiles | null = null
  try {
    await inferTypes(model)
    done = tileBatch(model.graph, input, tiles, chosen)
  } catch {
    // the graph fixes the batch size somewhere
  }
  for (const [v, type] of whole) if (!done || !v.producer || !chosen.has(v.producer)) v.setType(type)
  return done
}

/** The largest power of two that divides `n`, up to `max`. */
function divisorUpTo(n: number, max: number): number {
  let d = 1
  while (d < max && n % (d * 2) === 0) d *= 2
  return d
}

/** The batch size is part of a step graph: shapes on the gradient's path must be known. */
export function fixBatch(input: Value, batch: number): void {
  const dims = input.type?.dims
  if (input.type && dims && dims.length > 0) input.setType({ elem: input.type.elem, dims: [batch, ...dims.slice(1)] })
}

function fixInputs(graph: Graph, dims: Readonly<Record<string, readonly number[]>>): void {
  for (const v of graph.inputs) if (v.type && dims[nameOf(v)]) v.setType({ elem: v.type.elem, dims: dims[nameOf(v)]! })
}

/** The one data input of a model; a model error where there are several. */
export function soleInput(graph: Graph): Value {
  const inputs = graph.fed
  if (inputs.length !== 1)
    throw modelError('several-inputs', `the model has ${inputs.length} inputs; training feeds exactly one`)
  return inputs[0]!
}

interface Unpacked {
  readonly layout: FlatLayout
  /** The flat graph input; null where there is nothing in it. */
  readonly flat: Value | null
  readonly values: readonly Value[]
}

/** Replaces initializers by parts of one flat graph input. */
function unpacked(b: Builder, graph: Graph, constants: readonly Value[], inputName: string): Unpacked {
  const layout = new FlatLayout(constants.map((v) => ({ name: nameOf(v), dims: v.constant!.dims })))
  if (constants.length === 0) return { layout, flat: null, values: [] }
  const flat = graph.addInput(inputName, { elem: 'float32', dims: [layout.size] })
  const values = layout.unpack(b, flat)
  constants.forEach((v, i) => {
    graph.replaceUses(v, values[i]!)
    graph.removeInitializer(v)
  })
  return { layout, flat, values }
}

/** The values of each output now, its own and its partner's. A model error where a shape is not known. */
function exercisesOf(
  subjects: readonly Subject[],
  partners: ReadonlyMap<Subject, Source>,
  now: ReadonlyMap<Value, Value>,
): Exercise[] {
  return subjects.map((subject) => {
    const source = partners.get(subject) ?? null
    const [student, teacher] = [now.get(subject.head.value)!, source && now.get(source.head.value)!]
    if (isStatic(student.type?.dims ?? null)) return { subject, student, source, teacher }
    throw modelError('dynamic-shape', `the shape of output '${subject.name}' is not known`, {
      next: 'give the model fixed input dims',
    })
  })
}

/** The teacher's, of outputs whose loss divides by it. */
async function variancesOf(
  step: Model,
  inputName: string,
  lessons: readonly Decided[],
  { teacher }: StepOptions,
): Promise<Map<string, number>> {
  const relative = lessons.filter((l) => l.loss === 'nmse')
  if (relative.length === 0) return new Map()
  if (!teacher?.variances) throw bugError('nmse divides by variances, and the step was given none')
  const values = [...new Set(relative.map((l) => l.teacher!))]
  const found = await teacher.variances(partFor(step, values), inputName)
  return new Map(relative.map((l) => [l.subject.name, found[values.indexOf(l.teacher!)]!]))
}

/** The mean over the outputs that are distributions; null where none is. */
function entropyOf(b: Builder, lessons: readonly Decided[], { temperature }: StepOptions): Value | null {
  const entropies = lessons
    .filter((l) => isDivergence(l.loss))
    .map((l) => teacherEntropy(b, l.teacher!, classesIn(l), temperature))
  if (entropies.length < 2) return entropies[0] ?? null
  return b.op('Mul', [b.op('Sum', entropies), b.scalar(1 / entropies.length)])
}

const total = (b: Builder, terms: readonly Value[]): Value => (terms.length === 1 ? terms[0]! : b.op('Sum', terms))

/** The flat inputs as the model begins with them. */
function stateOf(graph: Graph, inputs: Readonly<Record<string, Unpacked>>): Record<string, Tensor> {
  const given = Object.entries(inputs).filter(([, { flat }]) => flat)
  return Object.fromEntries(
    given.map(([name, { layout }]) => {
      const values = layout.pack((of) => graph.find(of)!.constant!.toFloat32())
      return [name, Tensor.float32([layout.size], values)]
    }),
  )
}

/** Makes `v` a graph output of that name. */
function name(graph: Graph, v: Value, outputName: string): void {
  const out = v.name === outputName ? v : graph.append().op('Identity', [v], {}, { name: outputName, type: v.type })
  graph.addOutput(out)
}

/** The update in the step graph itself, or, where gradients are accumulated, as a graph of its own, which is returned. */
function emitUpdates(
  graph: Graph,
  o: StepOptions,
  weights: Unpacked,
  gradient: Value,
  scales: ReadonlySet<string>,
): Model | null {
  const { layout, flat } = weights
  const vector = { elem: 'float32', dims: [layout.size] } as const
  const micro = o.accumulate ?? 1
  if (micro === 1) {
    emitOptimizer(graph, o, layout, flat!, gradient, scales)
    return null
  }
  const b = graph.append()
  const share = b.op('Mul', [gradient, b.scalar(1 / micro)])
  name(graph, b.op('Add', [graph.addInput('accumulated', vector), share]), 'next_accumulated')
  const update = new Model(new Graph('update'), WORKING_OPSET)
  const own = update.graph
  emitOptimizer(own, o, layout, own.addInput('weights', vector), own.addInput('accumulated', vector), scales)
  return update
}

function emitOptimizer(
  graph: Graph,
  o: StepOptions,
  layout: FlatLayout,
  weights: Value,
  gradient: Value,
  scales: ReadonlySet<string>,
): void {
  const vector = (name: string): Value => graph.addInput(name, { elem: 'float32', dims: [layout.size] })
  const slots = slotsOf(o.optimizer.optimizer).map(vector)
  const hyper = Object.fromEntries(
    hyperInputsOf(o.optimizer.optimizer).map((n) => [n, graph.addInput(n, { elem: 'float32', dims: [] })]),
  )
  const update = emitUpdate(graph.append(), o.optimizer, {
    weights,
    gradient,
    slots,
    hyper,
    weightDecay: perParameter(layout, o.optimizer.weightDecay, o.weightDecayOf),
    learningRate: perParameter(layout, 1, o.learningRateOf),
  })
  name(graph, update.gradientNorm, 'gradient_norm')
  const next = scales.size > 0 ? boundShrink(graph.append(), update.weights, weights, layout, scales) : update.weights
  name(graph, next, 'next_weights')
  update.slots.forEach((v, i) => {
    name(graph, v, `next_${slots[i]!.name}`)
  })
}

/** Quantiser steps get no weight decay: it would pull them towards the clipping of everything. */
function withoutDecay(o: StepOptions, scales: ReadonlyMap<string, unknown>): StepOptions {
  if (scales.size === 0) return o
  const { weightDecayOf = () => 1 } = o
  return { ...o, weightDecayOf: (name) => (scales.has(name) ? 0 : weightDecayOf(name)) }
}

/** One number where all factors agree, a vector otherwise. */
function perParameter(layout: FlatLayout, base: number, of: ((name: string) => number) | undefined): Factor {
  if (!of) return base
  const factors = layout.entries.map((e) => base * of(e.name))
  if (factors.every((f) => f === factors[0])) return factors[0] ?? base
  return perEntry(layout, (name) => base * of(name)).view('float32')
}

/** The layout of all running means and variances. */
export function runningStatistics(norms: readonly NormLayer[]): FlatLayout {
  const seen = new Map<string, readonly number[]>()
  for (const n of norms) for (const v of [n.runningMean, n.runningVariance]) seen.set(nameOf(v), v.constant!.dims)
  return new FlatLayout([...seen].map(([name, dims]) => ({ name, dims })))
}

/**
 * One vector of all batch statistics, in the layout's order: means, and unbiased variances, M / (M - 1), as PyTorch keeps
 * them.
 */
export function batchStatistics(graph: Graph, norms: readonly NormLayer[], layout: FlatLayout): Value {
  const now = new Map<string, { value: Value; factor: number }>()
  for (const n of norms) {
    const { count } = n
    now.set(nameOf(n.runningMean), { value: n.batchMean, factor: 1 })
    now.set(nameOf(n.runningVariance), { value: n.batchVariance, factor: count / Math.max(1, count - 1) })
  }
  const b = graph.append()
  const factors = perEntry(layout, (name) => now.get(name)!.factor)
  const parts = layout.entries.map((e) => now.get(e.name)!.value)
  const joined = layout.concat(b, parts, 'population_statistics')
  return b.op('Mul', [joined, b.initializer('unbiased', factors)], {}, { name: 'batch_statistics' })
}

const vector = (layout: FlatLayout): TensorType => ({ elem: 'float32', dims: [layout.size] })

/** running = momentum * running + (1 - momentum) * batch, where the means in `centred` were taken less the running ones. */
function emitStatistics(
  norms: readonly NormLayer[],
  layout: FlatLayout,
  running: Value,
  centred: ReadonlySet<string>,
): void {
  const { graph } = running
  const momentum = new Map(norms.flatMap((n) => [n.runningMean, n.runningVariance].map((v) => [nameOf(v), n.momentum])))
  const batch = batchStatistics(graph, norms, layout)
  const b = graph.append()
  const keep = b.initializer(
    'statistics_keep',
    perEntry(layout, (name) => (centred.has(name) ? 1 : momentum.get(name)!)),
  )
  const take = b.initializer(
    'statistics_take',
    perEntry(layout, (name) => 1 - momentum.get(name)!),
  )
  name(graph, b.op('Add', [b.op('Mul', [running, keep]), b.op('Mul', [batch, take])]), 'next_statistics')
}

/** A vector with one number for each tensor of the layout, repeated over its elements. */
function perEntry(layout: FlatLayout, of: (name: string) => number): Tensor {
  const out = new Float32Array(layout.size)
  for (const e of layout.entries) out.fill(of(e.name), e.offset, e.offset + e.size)
  return Tensor.float32([layout.size], out)
}

/** Whether any BatchNormalization of the model would be trained. */
export const hasTrainableStatistics = (model: Model): boolean => normNodes(model.graph).length > 0
