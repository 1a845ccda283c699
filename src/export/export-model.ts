/**
 * A trained graph to a file that deploys (DESIGN section 6). The input is any graph with masks, quantisers or neither,
 * of our passes or foreign; the output computes the same with standard operators only.
 *
 *   packed  weights as mask + low-bit non-zeros, decoded by the file itself; activations rounded in float arithmetic
 *   int4    dense INT4 weights behind DequantizeLinear, activations in their 4-bit Q/DQ pairs
 *   int8    the same values in 8-bit containers, so that onnxruntime makes QLinearConv of layers between quantisers, and
 *           of wide layers with float outputs (split-sums.ts)
 *
 * 16-bit floats become 32-bit ones inside (onnxruntime's CPU kernels compute so anyway); inputs and outputs keep theirs.
 *
 * BatchNormalization in training mode stays so, with a warning. Does not apply to weights inside If, Loop and Scan bodies (they stay as they are).
 */

import { constantSource } from '../analysis/constants.ts'
import { usageError } from '../errors.ts'
import { cloneModel } from '../graph/clone.ts'
import { encodeModel, fingerprint } from '../graph/codec.ts'
import { isSparseInitializer } from '../graph/codec-extra.ts'
import type { Graph, Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { elementTypes } from '../graph/types.ts'
import { constantOf } from '../ops/constant-of.ts'
import { isRectified } from '../ops/facts.ts'
import { declaredOutputs } from '../passes/declared-outputs.ts'
import { removeDead } from '../passes/eliminate-dead.ts'
import { requireFinite } from '../passes/finite.ts'
import { recordHistory } from '../passes/history.ts'
import { trainingWarning } from '../passes/infer-bn.ts'
import { inlineFunctions } from '../passes/inline-functions.ts'
import { type Declined, type LeftWeights, leftWeights, otherWeights } from '../passes/left-weights.ts'
import { settleOverridable } from '../passes/overridable.ts'
import { upgradeModelTo } from '../passes/upgrade-opset.ts'
import { widenInside } from '../passes/widen-floats.ts'
import { inferTypes } from '../runtime/infer-types.ts'
import { type Activation, activationsOf, dropNoOps, lowerToFloat, toContainers } from './activations.ts'
import { emitWeights } from './decode.ts'
import { attach, moveBiases, pairedWeights, writeDense } from './dense.ts'
import { type BatchNorms, foldBatchNorms, type Layer, layersOf } from './fold-affine.ts'
import { guardQuantisers } from './guard-quantisers.ts'
import { arrangeIntegers } from './integer-layout/index.ts'
import { settleParameters } from './settle-parameters.ts'
import { planStorage, type StorageKind, type StoragePlan } from './storage.ts'
import { readWeights, type Weight } from './weights.ts'

export type ExportFormat = 'packed' | 'int4' | 'int8'

export interface ExportOptions {
  readonly format?: ExportFormat
  /** int8: weights stored packed and decoded to INT8 at load. */
  readonly packedWeights?: boolean
  /** int8: convolutions of up to 16 channels on two rows at once, for AVX-512 VNNI. */
  readonly rowPairs?: boolean
  /** Short names for values inside the graph: smaller files, no layer-by-layer check by name. */
  readonly shortNames?: boolean
  /** Weights may hold NaN and infinity, which are a model error otherwise. */
  readonly allowNonfinite?: boolean | undefined
  /** Weights that are inputs with a default stay so, and as they are. */
  readonly keepOverridable?: boolean
}

export interface ExportedTensor {
  readonly name: string
  readonly dims: readonly number[]
  readonly elements: number
  readonly nonZeros: number
  /** Width of the stored values; 32 for floats. */
  readonly bits: number
  readonly storage: StorageKind
  /** Of values and masks, without scales, nodes and names. */
  readonly bytes: number
}

export interface ExportReport {
  readonly format: ExportFormat
  /** Of the whole file. */
  readonly bytes: number
  /** What the weights take, all of their decode included: scales, shapes, nodes, names. */
  readonly weightBytes: number
  readonly weights: number
  readonly bytesPerWeight: number
  readonly batchNorms: BatchNorms
  readonly activations: number
  readonly tensors: readonly ExportedTensor[]
  /** int8: layers that may give another level of their output than the graph does here and there, and why. */
  readonly inexact: readonly { readonly layer: string; readonly reason: string }[]
  /** Weights stored as the floats that they were. */
  readonly left: LeftWeights
}

/** INT4 came with opset 21. */
const LEAST_OPSET = 21

export async function exportModel(
  source: Model,
  options: ExportOptions = {},
  { log = () => {} }: { log?: (message: string) => void } = {},
): Promise<{ model: Model; report: ExportReport }> {
  const format = options.format ?? 'packed'
  if (format !== 'int8' && options.packedWeights)
    throw usageError('--packed-weights goes with --format int8', 'the packed format packs its weights anyway')
  if (format !== 'int8' && options.rowPairs) throw usageError('--row-pairs goes with --format int8')
  const model = cloneModel(source)
  const { graph } = model
  const restoreOutputs = declaredOutputs(model)
  settleOverridable(model, options.keepOverridable ?? false, { log })
  if (!options.allowNonfinite) requireFinite(model)
  const warning = trainingWarning(model)
  if (warning) log(warning)
  inlineFunctions(model)
  if (model.opset < LEAST_OPSET) upgradeModelTo(model, LEAST_OPSET)
  widenInside(model)
  await inferTypes(model)
  dropNoOps(graph)
  removeDead(graph)
  await settleParameters(model)
  const weights = await readWeights(model)
  const others = otherWeights(graph, sourcesOf(weights))
  const readers = new Map(weights.map((w) => [w, layerOf(w)]))
  const layers = layersOf(weights)
  const batchNorms = foldBatchNorms(graph, layers, format !== 'int8')
  const activations = activationsOf(graph)
  placeActivations(format, activations, layers)
  const paired = format === 'packed' ? new Set<Weight>() : pairedWeights(weights, layers, format)
  if (format !== 'packed') {
    guardQuantisers(graph, layers, paired)
    moveBiases(paired, layers, format)
  }
  const before = detach(model, weights)
  strip(model)
  if (options.shortNames) shorten(graph)
  const baseline = encodeModel(model).length
  const { plans, inexact } =
    format === 'packed'
      ? { plans: [writePacked(graph, before)], inexact: [] }
      : writeDense(graph, before, paired, layers, { format, packed: options.packedWeights ?? false })
  if (format === 'int8') await arrangeIntegers(model, { rowPairs: options.rowPairs ?? false })
  restoreOutputs()
  const choices = plans.flatMap((p) => p.choices)
  const elements = before.reduce((n, w) => n + w.size, 0)
  const weightBytes = encodeModel(model).length - baseline
  const stored = choices.map(({ weight, kind, payload }) => ({
    name: weight.name,
    dims: weight.dims,
    elements: weight.size,
    nonZeros: weight.nonZeros,
    bits: kind === 'raw' ? 32 : weight.bits,
    storage: kind,
    bytes: payload,
  }))
  const floats = choices.filter((c) => c.kind === 'raw').map(({ weight }) => floatWeight(weight, readers.get(weight)!))
  const all = elements + others.reduce((n, d) => n + d.weights!, 0)
  model.metadata.set('mnc.export', format)
  recordHistory(model, {
    pass: 'export',
    options: {
      format,
      ...(options.packedWeights && { packedWeights: true }),
      ...(options.rowPairs && { rowPairs: true }),
      ...(options.keepOverridable && { keepOverridable: true }),
    },
    input: fingerprint(source),
    metrics: { weights: elements, weightBytes },
  })
  return {
    model,
    report: {
      format,
      bytes: encodeModel(model).length,
      weightBytes,
      weights: elements,
      bytesPerWeight: elements === 0 ? 0 : weightBytes / elements,
      batchNorms,
      activations: activations.length,
      tensors: stored,
      inexact: inexact.map(({ weight, reason }) => ({ layer: readers.get(weight)!.where, reason })),
      left: leftWeights([...floats, ...others], all),
    },
  }
}

/** The tensors that weights are made of. */
const sourcesOf = (weights: readonly Weight[]): Value[] => weights.flatMap((w) => constantSource(w.value) ?? [])

/** The layer's name and operator, which `strip` takes away. */
function layerOf({ value, name }: Weight): { readonly where: string; readonly op: string } {
  const [reader] = value.uses
  return { where: reader?.id ?? name, op: reader?.op ?? 'Conv' }
}

/** Why a weight is stored as the floats that it was. */
function floatWeight(weight: Weight, { where, op }: ReturnType<typeof layerOf>): Declined {
  const weights = weight.size
  if (weight.ints) return { where, reason: 'it is so small that a decode would take more', weights }
  return { where, reason: `its weights are not quantised`, weights, remedy: `mnc pass quantize --ops ${op}` }
}

function placeActivations(
  format: ExportFormat,
  activations: readonly Activation[],
  layers: ReadonlyMap<Node, Layer>,
): void {
  if (format === 'packed') lowerToFloat(activations, layers)
  else {
    // float weights between quantisers are what onnxruntime would quantise on its own
    const floatLayer = (w: Weight): boolean => w.ints === null
    const lowered = activations.filter((a) => someWeight(a, layers, floatLayer))
    lowerToFloat(lowered, layers)
    const rest = activations.filter((a) => !lowered.includes(a))
    if (format === 'int8') toContainers(rest)
    else placePlain(rest, layers, lowered.length > 0)
  }
}

/**
 * Plain Q/DQ, but for two things that onnxruntime gets wrong: its QLinearConv takes INT8 weights with a UINT4 input and
 * then refuses to load; and it drops a ReLU in front of a 4-bit quantiser that holds negative numbers, too, whose zero
 * point it takes for its lowest value. Where any activation is in 8 bits (`wide`, or for these reasons) all are:
 * mixed-widths.ts says why. Those in int8 get uint8: activation-range.ts says why.
 */
function placePlain(activations: readonly Activation[], layers: ReadonlyMap<Node, Layer>, wide: boolean): void {
  const lowered = activations.filter((a) => a.hi - a.lo < 16 && someWeight(a, layers, (w) => w.bits > 4))
  lowerToFloat(lowered, layers)
  const rest = activations.filter((a) => !lowered.includes(a))
  const isNarrow = (a: Activation): boolean => elementTypes[a.pair.container].bits === 4
  const behindRelu = rest.some((a) => isRectified(a.pair.source) && holdsNegatives(a))
  if (wide || lowered.length > 0 || behindRelu || !rest.every(isNarrow))
    toContainers(rest.filter((a) => isNarrow(a) || a.pair.container === 'int8'))
}

const holdsNegatives = ({ pair }: Activation): boolean => pair.lo < (constantOf(pair.zeroPoint)?.toNumbers()[0] ?? 0)

/** Whether a layer reads the quantised value whose weight is such. */
function someWeight(a: Activation, layers: ReadonlyMap<Node, Layer>, test: (w: Weight) => boolean): boolean {
  for (const n of a.pair.dequantize.output.uses) {
    const weight = layers.get(n)?.weight
    if (weight && test(weight)) return true
  }
  return false
}

/** Puts a placeholder input where each weight was, so that everything behind it falls away. */
function detach(model: Model, weights: readonly Weight[]): Weight[] {
  const { graph } = model
  const kept: Weight[] = []
  for (const w of weights) {
    if (!w.value.isUsed) continue
    const placeholder = graph.addInput(graph.freshName('_'), null)
    graph.replaceUses(w.value, placeholder)
    w.value = placeholder
    kept.push(w)
  }
  removeDead(graph)
  return kept
}

function writePacked(graph: Graph, weights: readonly Weight[]): StoragePlan {
  const plan = planStorage(weights)
  for (const [w, v] of emitWeights(graph.prepend(), plan)) attach(graph, w, v)
  return plan
}

/** What only training needed, and labels: types of inner values, node names and metadata, doc strings. */
function strip(model: Model): void {
  const { graph } = model
  removeDead(graph)
  for (const v of graph.values()) {
    if (v.isInput || v.isOutput) continue
    v.metadata.clear()
    if (!isSparseInitializer(v)) v.extra = undefined
    if (!v.constant) v.setType(null)
  }
  for (const n of graph.nodes()) {
    n.rename('')
    n.metadata.clear()
    n.extra = undefined
  }
}

/** Values inside the graph get the shortest names that are free, here and in bodies of If, Loop and Scan. */
function shorten(graph: Graph): void {
  const bodies = [...graph.allNodes()].flatMap((n) => n.subgraphs)
  const inner = new Set(bodies.flatMap((body) => Array.from(body.values(), (v) => v.name)))
  let next = 0
  for (const v of [...graph.values()]) {
    if (v.isInput || v.isOutput) continue
    let name: string
    do name = (next++).toString(36)
    while (graph.find(name) || inner.has(name))
    if (name.length < v.name.length) graph.rename(v, name)
  }
}
