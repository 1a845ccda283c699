/** Options of an export, declared once for the command line and recipes. */
import { type OptionsOf, optionTable } from '../base/options.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import { overridableOptions } from '../pass-manager/overridable-options.ts'

export const exportOptions = optionTable({
  format: {
    type: 'string',
    enum: ['packed', 'int4', 'int8', 'qdq', 'weight-only', 'float', 'float16'],
    description:
      'packed (the default): a mask and the low-bit non-zeros, each as words of a prefix code where that is smaller, decoded by the graph itself at load; int4: dense INT4 Q/DQ; int8: the same values in 8-bit containers for integer kernels; qdq: plain 8-bit Q/DQ for other readers; weight-only: products of matrices as MatMulNBits of onnxruntime, with 2, 4 or 8 bits and float inputs; float: no quantisers of activations, weights as floats; float16: the same in 16-bit floats, but for layers that they do not hold, inputs and outputs as they are',
  },
  packedWeights: {
    type: 'boolean',
    default: false,
    description: 'int8: store the weights packed and decode them to INT8',
  },
  rowPairs: {
    type: 'boolean',
    default: false,
    description: 'int8: compute convolutions of up to 16 channels two rows at a time, for processors with AVX-512 VNNI',
  },
  vnni: {
    type: 'boolean',
    default: false,
    description:
      'int8: INT8 weights in all layers, for x86 processors with VNNI and for ARM, where they are quicker. Others cut off sums of 8-bit ones at 16 bits; without this such layers have UINT8 weights, which are right everywhere. Weights of up to 7 bits are INT8 either way',
  },
  mixed: {
    type: 'boolean',
    default: false,
    description:
      'int8: leave layers on large images of few channels, and those in front of float outputs, in floats, with nothing rounded between them: faster for detectors',
  },
  symmetric: {
    type: 'boolean',
    default: false,
    description: 'qdq: signed activations without a zero point; where they were unsigned, half of the levels are left',
  },
  floatActivations: {
    type: 'boolean',
    default: false,
    description: 'packed: leave activations unrounded; those of fewer than 8 bits keep their limits',
  },
  roundInputs: {
    type: 'boolean',
    default: false,
    description:
      'weight-only: let products round their inputs to 8 bits in blocks (accuracy_level 4): faster for more than a few rows, off by 0.3 to 1 % of the largest output',
  },
  halfParameters: {
    type: 'boolean',
    default: false,
    description:
      'packed: store biases, scales and weights that stay floats in 16 bits, or else in 24, where the outputs of random inputs move by 1 % at most, or by no more than half as far again as the last place of float32 moves them',
  },
  shortNames: {
    type: 'boolean',
    default: false,
    description: 'Shorten the names of inner values: a smaller file, but check --layers finds no pairs without --names',
  },
  allowLarger: {
    type: 'boolean',
    default: false,
    description: 'Write the file even if it is larger than its input (otherwise exit 3) or nothing is compressed',
  },
  ...finiteOptions,
  ...overridableOptions,
})

export type ParsedExportOptions = OptionsOf<typeof exportOptions>

/** Name of a format of exported files. */
export type ExportFormat = NonNullable<ParsedExportOptions['format']>

/** Whether the format stores weights as floats whatever they are: it compresses nothing, and is not meant to. */
export const holdsFloats = (format: ExportFormat): boolean => format === 'float' || format === 'float16'

/** Options of one format, and which that is. */
export const formatOf = {
  packedWeights: 'int8',
  rowPairs: 'int8',
  vnni: 'int8',
  mixed: 'int8',
  symmetric: 'qdq',
  floatActivations: 'packed',
  halfParameters: 'packed',
  roundInputs: 'weight-only',
} as const satisfies Partial<Record<keyof ParsedExportOptions, ExportFormat>>

/** Those that are given, by name. */
export const ownOptions = (options: ExportOptions): (keyof typeof formatOf)[] =>
  (Object.keys(formatOf) as (keyof typeof formatOf)[]).filter((name) => options[name])

/** The same for a program. */
export interface ExportOptions {
  /** `packed` by default. */
  readonly format?: ExportFormat | undefined
  /** int8: weights stored packed and decoded to INT8 at load. */
  readonly packedWeights?: boolean
  /** int8: convolutions of up to 16 channels on two rows at once, for AVX-512 VNNI. */
  readonly rowPairs?: boolean
  /** int8: INT8 weights also where x86 processors without VNNI may cut off their sums. */
  readonly vnni?: boolean
  /** int8: layers that gain nothing as integers, by the size of their images, stay in floats. */
  readonly mixed?: boolean
  /** qdq: activations are signed and have no zero point. */
  readonly symmetric?: boolean
  /** packed: activations are not rounded. */
  readonly floatActivations?: boolean
  /** weight-only: inputs of products are rounded to 8 bits in blocks. */
  readonly roundInputs?: boolean
  /** packed: biases, scales and weights that stay floats have 16 or 24 bits, where the outputs allow. */
  readonly halfParameters?: boolean
  /** Short names for values inside the graph: smaller files, no layer-by-layer check by name. */
  readonly shortNames?: boolean
  /** Weights may contain NaN and infinity, which are a model error otherwise. */
  readonly allowNonfinite?: boolean | undefined
  /** Weights that are inputs with a default stay inputs, unchanged. */
  readonly keepOverridable?: boolean
}
