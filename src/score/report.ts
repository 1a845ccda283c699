/** What a score is: storage / P0 + operations / O0 (MicroNet Challenge, NeurIPS 2019), and the report that holds it. */
import { type OptionsInput, type OptionsOf, optionTable } from '../base/options.ts'

/** P0 in 32-bit parameters, O0 in 32-bit operations. */
export const references = {
  /** WideResNet-28-10. */
  cifar100: { parameters: 36.5e6, operations: 10.49e9 },
  /** MobileNetV2-1.4. */
  imagenet: { parameters: 6.9e6, operations: 1170e6 },
  wikitext103: { parameters: 159e6, operations: 318e6 },
} as const

export type Reference = keyof typeof references
export type Accumulator = 'fp32' | 'adder-tree'

export const scoreOptions = optionTable({
  reference: {
    type: 'string',
    enum: ['cifar100', 'imagenet', 'wikitext103'],
    default: 'cifar100',
    description: 'Task whose reference model is the divisor of storage and operations',
  },
  accumulator: {
    type: 'string',
    enum: ['fp32', 'adder-tree'],
    default: 'fp32',
    description: 'How additions within a low-bit dot product are counted',
  },
  floatBits: {
    type: 'integer',
    minimum: 16,
    maximum: 32,
    default: 32,
    description: 'Width of float values outside low-bit dot products: 16 or 32',
  },
})
export type ScoreOptions = OptionsInput<typeof scoreOptions>
export type ParsedScoreOptions = OptionsOf<typeof scoreOptions>

/** Per accumulator: additions in 32-bit operations. */
export interface Additions {
  readonly fp32: number
  readonly adderTree: number
}

/** One node (with the BatchNormalization folded into it). Work of one image. */
export interface LayerScore {
  readonly name: string
  readonly op: string
  /** Multiply-accumulates of the dense layer. */
  readonly macs: number
  /** Elements of the weight; 0 for a layer without one. */
  readonly weights: number
  readonly nonZeros: number
  readonly weightBits: number | null
  readonly activationBits: number | null
  /** Bits of the sparsity mask; 0 where the weight is stored dense. */
  readonly maskBits: number
  /** In 32-bit parameters: weight, mask, scales, bias. */
  readonly storage: number
  /** In 32-bit operations; comparisons (ReLU, max pooling) count as multiplications, as in the challenge's own code. */
  readonly mults: number
  readonly adds: Additions
}

export interface Totals {
  /** In 32-bit operations. */
  readonly mults: number
  readonly adds: number
  readonly operations: number
  /** storage / P0, operations / O0, and their sum, for the chosen reference. */
  readonly storageScore: number
  readonly operationsScore: number
  readonly score: number
}

export interface ScoreReport extends Totals {
  readonly reference: Reference
  readonly accumulator: Accumulator
  readonly floatBits: number
  /** Parameters of the network as it is (BatchNormalization: two per channel), zeros included. */
  readonly parameters: number
  readonly macs: number
  /** In 32-bit parameters. */
  readonly storage: number
  readonly quantized: boolean
  readonly byAccumulator: Readonly<Record<Accumulator, Totals>>
  /** Score under each reference, with the chosen accumulator. */
  readonly byReference: Readonly<Record<Reference, number>>
  /** Storage and multiplications at 16 bits, additions at 32: allowed where nothing is quantised, else null. */
  readonly freebie: (Totals & { readonly storage: number }) | null
  readonly layers: readonly LayerScore[]
}

/** storage and operations in 32-bit parameters and operations. */
export function scoreOf(storage: number, operations: number, reference: Reference): number {
  const { parameters, operations: ops } = references[reference]
  return storage / parameters + operations / ops
}

export function totals(storage: number, mults: number, adds: number, reference: Reference): Totals {
  const operations = mults + adds
  return {
    mults,
    adds,
    operations,
    storageScore: scoreOf(storage, 0, reference),
    operationsScore: scoreOf(0, operations, reference),
    score: scoreOf(storage, operations, reference),
  }
}
