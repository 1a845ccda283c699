/** What an export reports about its file: bytes, how each weight is stored, what differs by a level, what was left alone. */
import { encodeModel } from '../codec/codec.ts'
import { type Declined, type LeftWeights, leftWeights } from '../layers/left-weights.ts'
import type { ExportFormat } from './export-options.ts'
import type { Exporting, Reader } from './exporting.ts'
import type { BatchNorms } from './weights/fold-affine.ts'
import type { Choice, StorageKind } from './weights/storage.ts'

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

/** What an export did with each tensor and each activation. */
export interface ExportReport {
  readonly format: ExportFormat
  /** Of the whole file. */
  readonly bytes: number
  /** Bytes of the weights, including all of their decode: scales, shapes, nodes, names. */
  readonly weightBytes: number
  readonly weights: number
  /** Of these, quantised ones, whatever the form that they are stored in. */
  readonly quantised: number
  readonly bytesPerWeight: number
  readonly batchNorms: BatchNorms
  readonly activations: number
  readonly tensors: readonly ExportedTensor[]
  /** int8: layers whose output may now and then be another level than the graph's, and why. */
  readonly inexact: readonly { readonly layer: string; readonly reason: string }[]
  /** Layers whose sums x86 processors without VNNI cut off at 16 bits (export/saturating-sums.ts). */
  readonly saturating: readonly string[]
  /** Weights stored as floats, unchanged. */
  readonly left: LeftWeights
  /** What onnxruntime computes on every run beside the float model, and what to do where that counts; sentences. */
  readonly costs: readonly string[]
}

/** Of floats. */
const widths: Partial<Readonly<Record<StorageKind, number>>> = { raw: 32, float16: 16, fixed16: 16, fixed24: 24 }

export function exportReport(context: Exporting): ExportReport {
  const { model, format, weights, others, readers, choices, weightBytes, inexact, batchNorms, activations } = context
  const elements = weights.reduce((n, w) => n + w.size, 0)
  const tensors = choices.map(({ weight, kind, payload }) => ({
    name: weight.name,
    dims: weight.dims,
    elements: weight.size,
    nonZeros: weight.nonZeros,
    bits: widths[kind] ?? weight.bits,
    storage: kind,
    bytes: payload,
  }))
  const floats = choices.filter((c) => c.kind === 'raw').map((c) => floatWeight(c, readers.get(c.weight)!))
  const all = elements + others.reduce((n, d) => n + d.weights!, 0)
  return {
    format,
    bytes: encodeModel(model).length,
    weightBytes,
    weights: elements,
    quantised: weights.reduce((n, w) => n + (w.ints ? w.size : 0), 0),
    bytesPerWeight: elements === 0 ? 0 : weightBytes / elements,
    batchNorms,
    activations: activations.length,
    tensors,
    inexact: inexact.map(({ layer, reason }) => ({
      layer: typeof layer === 'string' ? layer : readers.get(layer)!.where,
      reason,
    })),
    saturating: context.saturating,
    left: leftWeights([...floats, ...others], all),
    costs: costsOf(context),
  }
}

/** Figures: a mobile network, one thread, one sample. */
function costsOf({ format, options, activations, choices, unsigned }: Exporting): string[] {
  const costs: string[] = []
  if (unsigned > 0)
    costs.push(
      `weights of ${unsigned === 1 ? '1 layer' : `${unsigned} layers`} have 8 bits and are UINT8, which is right on every processor; INT8 is quicker, as 7-bit weights are (mnc ptq --weight-bits 7), or 8-bit ones with --vnni, for processors with VNNI and ARM`,
    )
  const dequantised = format === 'int4' ? choices.filter((c) => c.kind === 'int4' || c.kind === 'int8') : []
  if (dequantised.length > 0) {
    const elements = dequantised.reduce((n, c) => n + c.weight.size, 0).toLocaleString('en')
    costs.push(
      `onnxruntime dequantises ${dequantised.length} weights (${elements} numbers) on every run, and has no layout of its own for them: 0.8 of the speed of floats on a mobile network; --format packed decodes at load`,
    )
  }
  if (activations.length > 0 && (format === 'int4' || (format === 'packed' && !options.floatActivations))) {
    const [where, next] =
      format === 'int4'
        ? ['by quantisers without integer kernels', '--format int8 has integer kernels']
        : [
            'in float arithmetic',
            '--float-activations leaves that out; --format int8 --packed-weights decodes to integer kernels, if all between the layers is quantised (mnc ptq --integer)',
          ]
    costs.push(
      `activations are rounded ${where} at ${activations.length} places on every run: 0.6 to 0.85 of the speed of floats on a mobile network; ${next}`,
    )
  }
  return costs
}

/** Why a weight is stored as floats, unchanged. */
function floatWeight({ weight, reason }: Choice, { where, op }: Reader): Declined {
  const weights = weight.size
  if (reason) return { where, reason, weights }
  if (weight.ints) return { where, reason: 'it is so small that its decoder would take more', weights }
  return { where, reason: 'its weights are not quantised', weights, remedy: `mnc pass quantize --ops ${op}` }
}
