/**
 * Turns a trained graph into a deployable file. The input is any graph with masks, quantisers or neither,
 * made by our passes or by other tools; the output computes the same with standard operators only.
 *
 *   packed  weights as mask + low-bit non-zeros, decoded by the file itself; activations rounded in float arithmetic
 *   int4    dense INT4 weights after DequantizeLinear, activations in their 4-bit Q/DQ pairs
 *   int8    the same values in 8-bit containers, so that onnxruntime makes QLinearConv of layers between quantisers, and
 *           of wide layers with float outputs (split-sums.ts)
 *   weight-only  products of matrices as onnxruntime's MatMulNBits, inputs in floats
 *   qdq     the same as plain Q/DQ pairs, arranged for no reader in particular
 *   float   weights as floats, activations not rounded
 *   float16 the same in 16-bit floats, but for what they do not hold (half-floats.ts)
 *
 * 16-bit floats become 32-bit ones inside (onnxruntime's CPU kernels compute in them anyway), where the format is not
 * float16; inputs and outputs keep their types.
 *
 * BatchNormalization in training mode stays so, with a warning. Does not apply to weights inside If, Loop and Scan bodies (they stay as they are).
 */

import { usageError } from '../base/errors.ts'
import type { LongRun } from '../base/long-run.ts'
import { flagOf } from '../base/options.ts'
import { encodeModel, fingerprint } from '../codec/codec.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Graph } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { constantSource } from '../layers/constants.ts'
import { requireFinite } from '../layers/finite.ts'
import { otherWeights } from '../layers/left-weights.ts'
import { trainingWarning } from '../layers/training-mode.ts'
import { upgradeModelTo } from '../ops/raise-opset.ts'
import { recordHistory } from '../pass-manager/history.ts'
import { settleOverridable } from '../pass-manager/overridable.ts'
import { runStages, type Stage } from '../pass-manager/stages.ts'
import { removeDead } from '../passes/eliminate-dead.ts'
import { inlineFunctions } from '../passes/inline-functions.ts'
import { widenInside } from '../passes/widen-floats.ts'
import { inferTypes } from '../runtime/isolated/infer-types.ts'
import { activationsOf, dropNoOps } from './activations/activations.ts'
import { lowerGates } from './activations/gates.ts'
import { guardQuantisers } from './activations/guard-quantisers.ts'
import { leaveFloats } from './activations/leave-floats.ts'
import { quantisePools } from './activations/quantise-pools.ts'
import { compareTwoClasses } from './activations/two-classes.ts'
import { type ExportFormat, type ExportOptions, formatOf, ownOptions } from './export-options.ts'
import { type ExportReport, exportReport } from './export-report.ts'
import { type Calibration, Exporting } from './exporting.ts'
import { storeHalf } from './half-floats.ts'
import { quantiseBeforeShapes } from './integer-layout/bytes-through.ts'
import { arrangeIntegers } from './integer-layout/index.ts'
import { useLeastOpset } from './least-opset.ts'
import { narrowParameters } from './narrow-parameters.ts'
import { placeActivations } from './place-activations.ts'
import { saturatingLayers } from './saturating-sums.ts'
import { detach, dropDefaults, type Names, shorten, strip } from './strip.ts'
import { unsignWeights } from './unsigned-weights.ts'
import { emitWeights } from './weights/decode.ts'
import { attach, moveBiases, pairedWeights, writeDense } from './weights/dense.ts'
import { foldBatchNorms, layersOf } from './weights/fold-affine.ts'
import type { Inexact } from './weights/integer-form.ts'
import { lowerNorms } from './weights/integer-norms.ts'
import { writeWeightOnly } from './weights/nbits.ts'
import { writeFloats, writePlain } from './weights/plain.ts'
import { settleParameters } from './weights/settle-parameters.ts'
import { type Choice, planStorage, type StoragePlan } from './weights/storage.ts'
import { readWeights, type Weight } from './weights/weights.ts'

/** INT4 came with opset 21. */
const LEAST_OPSET = 21

const read: readonly Stage<Exporting>[] = [
  {
    name: 'settle-overridable',
    run: ({ model, options, log }) => settleOverridable(model, options.keepOverridable ?? false, { log }),
  },
  { name: 'check-values', run: checkValues },
  { name: 'inline-functions', run: ({ model }) => inlineFunctions(model) },
  { name: 'upgrade-opset', run: ({ model }) => model.opset < LEAST_OPSET && upgradeModelTo(model, LEAST_OPSET) },
  { name: 'widen-floats', run: ({ model }) => widenInside(model) },
  { name: 'infer-types', run: ({ model }) => inferTypes(model) },
  { name: 'drop-no-ops', run: dropUnused },
  { name: 'settle-parameters', run: ({ model }) => settleParameters(model) },
  { name: 'read-weights', run: readLayers },
  {
    name: 'fold-batch-norms',
    run: foldNorms,
  },
]

const always: readonly Stage<Exporting>[] = [...read, { name: 'place-activations', run: placeQuantisers }]

const integerRead: readonly Stage<Exporting>[] = [
  ...read,
  { name: 'leave-floats', run: ({ model, options }) => void (options.mixed && leaveFloats(model.graph)) },
  { name: 'quantise-pools', run: ({ model, layers }) => quantisePools(model.graph, layers) },
  { name: 'place-activations', run: placeQuantisers },
]

/** Integers after a DequantizeLinear. */
const dense: readonly Stage<Exporting>[] = [
  { name: 'pair-weights', run: pairWeights },
  { name: 'guard-quantisers', run: ({ model, layers, paired }) => guardQuantisers(model.graph, layers, paired) },
  { name: 'lower-norms', run: lowerChannelNorms },
  { name: 'move-biases', run: (c) => moveBiases(c.paired, c.layers, denseFormat(c)) },
]

const written: readonly Stage<Exporting>[] = [
  { name: 'detach-weights', run: detachWeights },
  { name: 'strip', run: ({ model }) => strip(model) },
  { name: 'write-weights', run: writeWeights },
]

const halved: readonly Stage<Exporting>[] = [
  ...written,
  { name: 'store-half', run: storeHalf },
  { name: 'strip-types', run: ({ model }) => strip(model) },
]

const rightEverywhere: Stage<Exporting> = {
  name: 'unsign-weights',
  run: async (c) => {
    if (!c.options.vnni) c.unsigned = await unsignWeights(c.model)
  },
}

const integers: readonly Stage<Exporting>[] = [
  { name: 'compare-two-classes', run: ({ model }) => compareTwoClasses(model) },
  { name: 'lower-gates', run: ({ model }) => lowerGates(model.graph) },
  { name: 'quantise-before-shapes', run: ({ model }) => quantiseBeforeShapes(model.graph) },
  {
    name: 'arrange-integers',
    run: ({ model, options }) => arrangeIntegers(model, { rowPairs: options.rowPairs ?? false }),
  },
  rightEverywhere,
]

const last: readonly Stage<Exporting>[] = [
  { name: 'restore-outputs', run: (c) => c.restoreOutputs() },
  // behind all that makes new ones
  { name: 'shorten-names', run: shortenNames },
  { name: 'lower-opset', run: ({ model }) => useLeastOpset(model) },
  { name: 'find-cut-off-sums', run: findCutOffSums },
]

const pipelines = {
  packed: [...always, ...written, { name: 'narrow-parameters', run: narrowParameters }, ...last],
  int4: [...always, ...dense, ...written, rightEverywhere, ...last],
  int8: [...integerRead, ...dense, ...written, ...integers, ...last],
  qdq: [...always, ...written, ...last],
  'weight-only': [...always, ...written, ...last],
  float: [...always, ...written, ...last],
  float16: [...always, ...halved, ...last],
} satisfies Record<ExportFormat, readonly Stage<Exporting>[]>

/** Progress counts stages. */
export interface ExportContext extends LongRun {
  readonly log?: (message: string) => void
  /** For formats that look at what the network computes; random inputs where there is none. */
  readonly calibration?: Calibration
}

/** An exported graph, and what was done to make it. */
export interface Exported {
  readonly model: Model
  readonly report: ExportReport
  /** Names before, of values that got shorter ones. */
  readonly names: Names
}

/** Turns a trained graph into the one that deploys; the model is not changed. */
export async function exportModel(
  source: Model,
  options: ExportOptions = {},
  { log = () => {}, calibration, signal, onProgress }: ExportContext = {},
): Promise<Exported> {
  const format = options.format ?? 'packed'
  for (const name of ownOptions(options))
    if (format !== formatOf[name])
      throw usageError(
        `${flagOf(name)} requires --format ${formatOf[name]}`,
        name === 'packedWeights' ? 'the packed format always packs its weights' : undefined,
      )
  const context = new Exporting(cloneModel(source), format, options, log, calibration ?? null)
  await runStages('export', pipelines[format], context, { signal, onProgress })
  const report = signed(source, context)
  return { model: context.model, report, names: context.names }
}

/** The history that is written into the file, and the report on the file. */
function signed(source: Model, context: Exporting): ExportReport {
  const { model, format, options, weights, weightBytes } = context
  marks.export.set(model, format)
  recordHistory(model, {
    pass: 'export',
    options: {
      format,
      ...Object.fromEntries(ownOptions(options).map((name) => [name, true])),
      ...(options.keepOverridable && { keepOverridable: true }),
    },
    input: fingerprint(source),
    metrics: { weights: weights.reduce((n, w) => n + w.size, 0), weightBytes },
  })
  return exportReport(context)
}

function checkValues({ model, options, log }: Exporting): void {
  if (!options.allowNonfinite) requireFinite(model)
  const warning = trainingWarning(model)
  if (warning) log(warning)
}

function dropUnused({ model }: Exporting): void {
  dropNoOps(model.graph)
  removeDead(model.graph)
}

async function readLayers(context: Exporting): Promise<void> {
  const { model } = context
  const weights = await readWeights(model)
  // the tensors that weights are made from
  const sources = weights.flatMap((w) => constantSource(w.value) ?? [])
  const named = ({ value, name }: Weight) => {
    const [reader] = value.uses
    return { where: reader?.id ?? name, op: reader?.op ?? 'Conv' }
  }
  context.weights = weights
  context.others = otherWeights(model.graph, sources)
  context.readers = new Map(weights.map((w) => [w, named(w)]))
  context.layers = layersOf(weights)
}

function foldNorms(context: Exporting): void {
  const { model, layers, format } = context
  context.batchNorms = foldBatchNorms(model.graph, layers, format !== 'int8')
}

function placeQuantisers(context: Exporting): void {
  context.activations = activationsOf(context.model.graph)
  const { format, options, activations, layers } = context
  context.inexact = placeActivations(format, options, activations, layers)
}

const denseFormat = ({ format }: Exporting): 'int4' | 'int8' => (format === 'int8' ? 'int8' : 'int4')

function pairWeights(context: Exporting): void {
  context.paired = pairedWeights(context.weights, context.layers, denseFormat(context))
}

function lowerChannelNorms(context: Exporting): void {
  if (context.format === 'int8') context.inexact = [...context.inexact, ...lowerNorms(context.model.graph)]
}

async function findCutOffSums(context: Exporting): Promise<void> {
  const layers = await saturatingLayers(context.model)
  context.saturating = layers.map(({ node }) => node.id)
}

function detachWeights(context: Exporting): void {
  context.weights = detach(context.model, context.weights)
}

function writeWeights(context: Exporting): void {
  const { model, format, weights, paired, layers, options } = context
  const bare = encodeModel(model).length
  const written = (): { readonly choices: readonly Choice[]; readonly inexact: readonly Inexact[] } => {
    if (format === 'packed') return { choices: writePacked(model.graph, weights).choices, inexact: [] }
    if (format === 'qdq') return writePlain(model.graph, weights, layers, options.symmetric ?? false)
    if (format === 'int8' || format === 'int4') {
      const o = { format, packed: options.packedWeights ?? false }
      return writeDense(model.graph, weights, paired, layers, o)
    }
    if (format === 'weight-only')
      return { choices: writeWeightOnly(model, weights, options.roundInputs ?? false), inexact: [] }
    return { choices: writeFloats(model.graph, weights), inexact: [] }
  }
  const { choices, inexact } = written()
  context.choices = choices
  context.inexact = [...context.inexact, ...inexact]
  context.weightBytes = encodeModel(model).length - bare
}

function shortenNames(context: Exporting): void {
  const { model, options } = context
  if (!options.shortNames) return
  dropDefaults(model.graph)
  context.names = shorten(model.graph)
}

function writePacked(graph: Graph, weights: readonly Weight[]): StoragePlan {
  const plan = planStorage(weights)
  for (const [w, v] of emitWeights(graph.prepend(), plan)) attach(graph, w, v)
  return plan
}
