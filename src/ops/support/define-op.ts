/**
 * What the project knows about an operator, declared in one place. Adding an op: one file here (or a line in its
 * family's file) and one line in index.ts.
 *
 * Rules see graphs of ONE opset: code that differentiates, counts or prunes first upgrades the graph to WORKING_OPSET with
 * the `upgrade-opset` pass, whose steps are the `upgrades` declared here. So a gradient or cost rule is written for the
 * newest form only, and `since` lists every form that `upgrades` can upgrade (plus the newest itself).
 */
import { MncError } from '../../base/errors.ts'
import type { AttributeLike } from '../../graph/attribute.ts'
import type { Builder } from '../../graph/builder.ts'
import type { Node, Value } from '../../graph/graph.ts'
import type { Tensor } from '../../graph/tensor.ts'
import type { ElementType } from '../../graph/types.ts'
import type { Ramp, RampOf } from './ramp.ts'

/** The opset that gradient and cost rules are written for. */
export const WORKING_OPSET = 21

export interface GradientContext {
  /** The forward node. Types of all forward values are known (static shapes). */
  readonly node: Node
  /** One per output: the gradient arriving there, null where none does. Same dims as the output. */
  readonly dy: readonly (Value | null)[]
  /** One per input: whether its gradient is wanted. A rule may skip work for the others. */
  readonly needs: readonly boolean[]
  /** Inserts at the end of the backward part so far. */
  readonly b: Builder
}

/**
 * One gradient per input, null = none, in the input's shape; where the op `broadcasts`, in the output's shape: the
 * driver sums it back. The driver also accumulates over several uses.
 */
export type GradientRule = (c: GradientContext) => readonly (Value | null)[]

export interface Unsupported {
  /** Why there is no gradient: ends up in the error that a user reads. */
  readonly unsupported: string
}

/** Work of one run of a node. MACs are multiply-accumulates of dot products; the rest are elementary operations. */
export interface Cost {
  readonly macs: number
  readonly mults: number
  readonly adds: number
  readonly comparisons: number
}

export const noCost: Cost = { macs: 0, mults: 0, adds: 0, comparisons: 0 }

/** Where a prunable and quantisable operand of an op sits. */
export interface WeightSlot {
  readonly input: number
  /** The input that it is multiplied with; absent where that is an index, or arises inside the op (an LSTM's state). */
  readonly data?: number
  /** Its letter in the standard, for an op that has several: `lstm.R`. Such an op is more than one product with it. */
  readonly part?: string
  /** The other operand looks up rows of the weight: it holds integers, not activations. */
  readonly lookup?: boolean
  /**
   * The op makes channels (axis 1) of the channels of input 0: output channel o is a sum over input channels and
   *
   *   window   the positions of a window that moves over the axes after the channels (Conv)
   *   matrix   nothing else: both are matrices (Gemm)
   *   rows     nothing else, of operands of any rank: channels are axis 1 of matrices only (MatMul)
   *
   * Such channels can be taken out of the weight on either side.
   */
  readonly channels?: 'window' | 'matrix' | 'rows'
  /** Input that is added to each output channel; absent where the op adds none. */
  readonly bias?: number
  /** Attributes that multiply the product and the bias, 1 by default. */
  readonly factors?: { readonly product: string; readonly bias: string }
  /** The op takes rows for columns of input 0. */
  transposesData?(node: Node): boolean
  /**
   * The transpose of a convolution: at borders fewer products are added up, and the weight counts input channels of all
   * groups and the output channels of one. (A convolution's: output channels of all groups, input channels of one.)
   */
  readonly transposed?: boolean
  /** Axis of the weight tensor that counts output channels (quantisation axis); depends on attributes for Gemm. */
  outputAxis(node: Node): number
  /** Axis along which a dot product runs over input channels (N:M groups). */
  inputAxis(node: Node): number
}

export interface SampleInput {
  readonly dims: readonly number[]
  readonly type?: ElementType
  /** Explicit values; otherwise seeded uniform numbers in `range`. */
  readonly values?: readonly number[]
  /** Default [-1, 1]. */
  readonly range?: readonly [number, number]
  /** An initializer instead of a graph input (shapes, axes, pads). Default: true for non-float types. */
  readonly constant?: boolean
}

/** A case that every generic test runs: gradient, oracle, cost, codec, executors. */
export interface OpSample {
  readonly name: string
  readonly inputs: readonly (SampleInput | null)[]
  readonly attributes?: Readonly<Record<string, AttributeLike>>
  readonly outputs?: number
  /** Opset of the sample; WORKING_OPSET by default. Older ones are upgraded before the gradient is tested. */
  readonly opset?: number
}

/** Rewrites one node from the form before `to` into the form of `to`; may replace the node. */
export interface Upgrade {
  readonly to: number
  readonly apply: (node: Node) => void
}

/**
 * How the channels of feature maps (axis 1) go through an op:
 *
 *   same       channel c of the output comes of channel c of each feature map; constants have one entry a channel or one
 *   product    the same, and a channel of zeros in one feature map makes the output's zero
 *   joined     the output has the channels of all inputs, one input after the other
 *   flattened  [N, C, ...] becomes [N, C * ...]: each channel a run of features
 */
export type ChannelFlow = 'same' | 'product' | 'joined' | 'flattened'

/** y = x * k + c per channel. */
export interface ChannelAffine {
  readonly k: Float64Array
  readonly c: Float64Array
}

export interface OpDef {
  readonly op: string
  readonly domain?: string
  /** since_version of every form whose meaning is known, ascending. */
  readonly since: readonly number[]
  /** `decompose`: what the op is written in by `decompose` is differentiated in its place. */
  readonly gradient: GradientRule | 'zero' | 'decompose' | Unsupported
  /**
   * Writes the node in operators with gradient rules and removes it; types of its inputs and outputs are known. New
   * values need no types. Throws unsupported-node for a form that it cannot write.
   */
  decompose?(node: Node): void
  /**
   * Writes the node in others where the engine's kernel takes far more room than its tensors: a training step's copy of
   * it, types known. False where the kernel will do.
   */
  lower?(node: Node): boolean
  cost(node: Node): Cost
  readonly weights?: readonly WeightSlot[]
  /** Inputs that are parameters by nature, trained whatever their size (Conv: weight, bias). */
  readonly parameters?: readonly number[]
  /**
   * Differentiable inputs whose initializers are *state*, never trained (running statistics, masks, clip limits).
   */
  readonly state?: readonly number[]
  /**
   * Inputs broadcast to the output's shape (Add, Mul, Where, ...): gradients come in the output's shape and the driver
   * sums them back. Rules of other ops return gradients in their inputs' shapes.
   */
  readonly broadcasts?: boolean
  /**
   * What the first output keeps of input 0: `value`, the very same tensor, or the same elements in another `type`, `shape`
   * or `order`. A weight may pass such ops on the way to its layer.
   */
  readonly carries?: 'value' | 'type' | 'shape' | 'order'
  /** The element type that the op converts to; undefined where that is unknown. */
  castsTo?(node: Node): ElementType | undefined
  /** Dims of the output where those of input 0 are `dims`, for an op that carries elements into another shape; null: unknown. */
  reshapes?(node: Node, dims: readonly number[]): readonly number[] | null
  /** The axis of an input of `rank` that each axis of the output is, for an op that carries elements into another order. */
  permutes?(node: Node, rank: number): readonly number[]
  /** Turns numbers into integers by a scale (`quantize`: input 1, with zero point 2), or such integers back into numbers. */
  readonly quantizer?: 'quantize' | 'dequantize'
  /** Not to be folded even where it reads constants alone: the result would not tell what the op is there for. */
  readonly unfoldable?: boolean
  /** Makes many elements of few: a large result is small as it is. */
  readonly fills?: boolean
  /** Outputs after the first are extras that can be left out where nothing reads them. */
  readonly optionalOutputs?: boolean
  /** Input 0 is kept between what these inputs hold: the least and the largest that the output can be. */
  readonly limits?: { readonly least?: number; readonly most?: number }
  /** max(x, 0): engines compute it together with the layer before it or the quantiser after it. */
  readonly rectifier?: boolean
  /** Where it is min(max(k x + c, least), most) of one of its inputs, k > 0; null for other forms. */
  ramp?(node: Node): RampOf | null
  /** y = x f(x), f this ramp. */
  readonly gatedBy?: Ramp
  /**
   * Engines compute it on 8-bit integers where its operands come from a quantiser each and its result goes into one: with
   * scales of their `own`, or as a copy where all have `one` scale.
   */
  readonly integerKernel?: 'own' | 'one'
  /** Gives truth values that say how two numbers compare. */
  readonly comparison?: boolean
  /** Adds its two inputs element by element. */
  readonly addition?: boolean
  /**
   * Of the list in input 0 (for Shape: the sizes of its axes), of `length` entries, those that the output holds, in order;
   * null where that is unknown, or not a list.
   */
  picks?(node: Node, length: number): readonly number[] | null
  /** How channels go through; null where they mix. Default: `same` for ops that broadcast. */
  channels?(node: Node): ChannelFlow | null
  /**
   * f(s x) = s f(x) for s > 0:
   *
   *   element   x the first input, the others as they are; an s for each element
   *   channel   the same with an s for each channel (axis 1, which go through as `channels` says)
   *   joint     x all inputs, each with the s of its elements
   *   factor    x any one of the inputs, the others as they are; an s for each element
   */
  homogeneous?(node: Node): 'element' | 'channel' | 'joint' | 'factor' | null
  /**
   * Inputs of one number for each channel of the output: channel c of the output is proportional to what they hold for c,
   * all of them together (scale and shift of a normalisation). `rank`: of the output.
   */
  scaledBy?(node: Node, rank: number): { readonly axis: number; readonly inputs: readonly number[] } | null
  /** For an op that puts its inputs one after the other: the axis, of inputs of `rank`. */
  joinsAlong?(node: Node, rank: number): number
  /**
   * For an op that takes parts of input 0: which of its `size` entries along `axis` each output holds, in order; null where
   * that is unknown.
   */
  takesAlong?(node: Node, axis: number, size: number): readonly (readonly number[])[] | null
  /** The mean of each channel, over samples and positions, is that of the input. */
  keepsMean?(node: Node): boolean
  /** For an op that puts zeros around input 0: how many channels of them before and behind along `axis`; null where unknown. */
  zerosAlong?(node: Node, axis: number): readonly [number, number] | null
  /** For an op with limits: what they are where they are constants of one number, infinite where there is none. */
  bounds?(node: Node): { readonly least: number; readonly most: number } | null
  /** Attributes that mean nothing at this value, or where all of their list are it. */
  readonly defaults?: Readonly<Record<string, number>>
  /** The output is the distribution of the scores in input 0, or its logarithm; losses read the scores. */
  readonly distribution?: 'linear' | 'log'
  /** Every output lies between two numbers, whatever the input: so they are not the scores that a softmax takes. */
  readonly bounded?: boolean
  /**
   * Which integers make sense for input `i`: those below a number (indices into a table), or some numbers (that it is
   * compared with). Random inputs keep to it. Absent or undefined: any.
   */
  integers?(node: Node, i: number): { readonly below: number } | { readonly of: readonly number[] } | undefined
  /** Whether the output cannot be negative, given which inputs cannot. Default: unknown, so false. */
  nonNegative?(node: Node, input: (i: number) => boolean): boolean
  /**
   * float16 holds its results where it holds its inputs: it moves numbers, compares them, or adds few of them up. Layers
   * count; whether their products are added up in float32 is the device's choice. Mixed precision runs it so.
   */
  readonly half?: boolean
  /** A form that computes with statistics of the batch, as in training, and how a node is brought out of it. */
  readonly batchMode?: {
    /** `opset`: the version that the node is written in. */
    isOn(node: Node, opset: number): boolean
    turnOff(node: Node, opset: number): void
  }
  /**
   * The affine map that the op is where its parameters are known (`tensorOf` has the values of constants), or why it is
   * not one. `opset`: the version that the node is written in.
   */
  affine?(node: Node, opset: number, tensorOf: (v: Value) => Tensor | null): ChannelAffine | string
  /** Gives a different result in every run, even from constants alone. */
  readonly random?: boolean
  /** The output where it depends on the shape of an input only, and that is known; null where it is not. */
  ofShape?(node: Node): Tensor | null
  /** Steps in ascending order of `to`. */
  readonly upgrades?: readonly Upgrade[]
  readonly samples: readonly OpSample[]
}

export const defineOp = (def: OpDef): OpDef => def

/** The error for a model that uses an op in a way that is not supported. */
export function unsupportedNode(node: Node, why: string, next?: string): MncError {
  return new MncError(`${node.label}: ${why}`, { code: 'unsupported-node', blame: 'model', node: node.id, next })
}

/** Elements of the first output. */
export const outputSize = (node: Node): number => node.output.dims.reduce((a, b) => a * b, 1)
