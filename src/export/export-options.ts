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

export type ExportFormat = NonNullable<ParsedExportOptions['format']>

/** Whether the format stores weights as floats whatever they are: it compresses nothing, and is not meant to. */
export const holdsFloats = (format: ExportFormat): boolean => format === 'float' || format === 'float16'

/** The same for a program. */
export interface ExportOptions {
  /** `packed` by default. */
  readonly format?: ExportFormat | undefined
  /** int8: weights stored packed and decoded to INT8 at load. */
  readonly packedWeights?: boolean
  /** int8: convolutions of up to 16 channels on two rows at once, for AVX-512 VNNI. */
  readonly rowPairs?: boolean
  /** qdq: activations are signed and have no zero point. */
  readonly symmetric?: boolean
  /** packed: activations are not rounded. */
  readonly floatActivations?: boolean
  /** packed: biases, scales and weights that stay floats are float16, where the outputs allow. */
  readonly halfParameters?: boolean
  /** Short names for values inside the graph: smaller files, no layer-by-layer check by name. */
  readonly shortNames?: boolean
  /** Weights may contain NaN and infinity, which are a model error otherwise. */
  readonly allowNonfinite?: boolean | undefined
  /** Weights that are inputs with a default stay inputs, unchanged. */
  readonly keepOverridable?: boolean
}
