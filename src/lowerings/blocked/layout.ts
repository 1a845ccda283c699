/**
 * Values in onnxruntime's blocked (NCHWc) layout: [N, C/c, H, W, c] in memory, where the engine still says [N, C, H, W].
 * A graph being rewritten holds such a value next to the plain one, its twin; nodes that still read the plain one get it
 * from a ReorderOutput, which index.ts removes in the end where there are none.
 */
import type { Builder } from '../../graph/builder.ts'
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { takeOrigin, weightGradientOf } from '../../graph/hints.ts'
import { Tensor } from '../../graph/tensor.ts'
import type { Dim, TensorType } from '../../graph/types.ts'
import { type Dims4, isDims4 } from './weights.ts'

/** The engine's own domain for operators on blocked values. */
export const DOMAIN = 'com.microsoft.nchwc'
/** What ReorderInput requires of the number of channels. */
const CHANNEL_MULTIPLE = 4

export interface Twin {
  readonly value: Value
  /**
   * Of the plain value: [N, C, H, W]. The blocked one has C filled up to whole blocks; whatever reads it makes nothing of
   * what the channels beyond C hold, which may be any finite numbers.
   */
  readonly dims: Dims4
}

type OperandsOfGradient = NonNullable<ReturnType<typeof weightGradientOf>>

export class BlockedLayout {
  readonly graph: Graph
  /** Channels that lie side by side. */
  readonly block: number
  /** Where a blocked value is of use even if something has to be reordered for it. */
  readonly wanted: ReadonlySet<Value>
  readonly #twins = new Map<Value, Twin>()
  readonly #reordered = new Map<Value, Value>()
  readonly #kernels = new Map<Value, Value>()
  readonly #gradients = new Map<Node, OperandsOfGradient>()
  /** The dims of the plain values of blocked ones. */
  readonly #dims = new Map<Value, string>()

  constructor(graph: Graph, block: number, wanted: ReadonlySet<Value>) {
    this.graph = graph
    this.wanted = wanted
    this.block = block
    for (const n of graph.nodes()) {
      const gradient = weightGradientOf(n)
      if (gradient) this.#gradients.set(n, gradient)
    }
  }

  /** The weight gradient that the node is marked as, with the values that were in the graph before the rewrite. */
  weightGradient(node: Node): OperandsOfGradient | null {
    return this.#gradients.get(node) ?? null
  }

  twin(v: Value | null | undefined): Twin | null {
    return (v && this.#twins.get(v)) ?? null
  }

  /** Whether `v` is the blocked form of a value of these dims. */
  isBlocked(v: Value, dims: Dims4): boolean {
    return this.#dims.get(v) === dims.join()
  }

  /** Channels in memory for so many of the value. */
  filled(channels: number): number {
    return Math.ceil(channels / this.block) * this.block
  }

  isWhole({ dims }: Twin): boolean {
    return dims[1] % this.block === 0
  }

  /** `v` in blocked layout, reordered where it has no twin. Its channels must be a multiple of 4 or its dims known. */
  blocked(b: Builder, v: Value): Value {
    const made =
      this.#twins.get(v)?.value ??
      once(this.#reordered, v, () => b.op('ReorderInput', [inFours(b, v)], {}, { domain: DOMAIN }))
    this.#pair(v, made, v.type?.dims ?? null)
    return made
  }

  /** The twin of a value of these dims, made where there is none yet. */
  twinOf(b: Builder, v: Value, dims: Twin['dims']): Twin {
    return { value: this.blocked(b, v), dims }
  }

  /** The twin of a value that is wanted blocked and whose channels fill the blocks. */
  wantedTwin(b: Builder, v: Value): Twin | null {
    const dims = v.type?.dims ?? null
    if (!this.wanted.has(v) || !isDims4(dims) || dims[1] % this.block !== 0) return null
    return this.twinOf(b, v, dims)
  }

  /** The kernel that was made from `w` before, or `make`s it. */
  kernel(w: Value, make: () => Value): Value {
    return once(this.#kernels, w, make)
  }

  /**
   * Puts `value`, blocked, in the place of the first output of `node`, whose channels are `channels`, and whose dims are
   * `dims` where its type does not say. The node's other outputs must be unused by now.
   */
  replace(node: Node, value: Value, channels: number, dims: readonly Dim[] | null = null): void {
    const y = node.output
    takeOrigin(value.producer, node)
    const plain = this.graph.before(node).op('ReorderOutput', [value], { channels }, { domain: DOMAIN, type: y.type })
    this.#pair(plain, value, y.type?.dims ?? dims)
    this.#pair(y, value, y.type?.dims ?? dims)
    this.graph.replaceUses(y, plain)
    this.graph.remove(node)
  }

  #pair(plain: Value, value: Value, dims: readonly Dim[] | null): void {
    if (!isDims4(dims)) return
    this.#twins.set(plain, { value, dims })
    this.#dims.set(value, dims.join())
  }

  /** [N, C/c, H, W, c]: how an ordinary operator sees a blocked value. Nothing moves. */
  opened(b: Builder, { value, dims: [n, c, h, w] }: Twin): Value {
    return b.op('Reshape', [value, b.ints([n, this.filled(c) / this.block, h, w, this.block])])
  }

  /** The inverse of `opened`. */
  closed(b: Builder, v: Value, [n, c, h, w]: Dims4): Value {
    return b.op('Reshape', [v, b.ints([n, this.filled(c), h, w])])
  }

  /** The type of the blocked value of these dims, as the engine sees it. */
  typeOf([n, c, h, w]: Dims4): TensorType {
    return { elem: 'float32', dims: [n, this.filled(c), h, w] }
  }

  /** A vector over channels, [..., C], with zeros for the channels beyond them. */
  filledUp(b: Builder, v: Value, rank: number, channels: number): Value {
    const missing = this.filled(channels) - channels
    const none = Array<number>(rank).fill(0)
    return missing === 0 ? v : b.op('Pad', [v, b.ints([...none, ...none.slice(1), missing])])
  }

  /** [..., C] of [..., C filled up]. */
  #cut(b: Builder, v: Value, rank: number, channels: number): Value {
    if (channels % this.block === 0) return v
    return b.op('Slice', [v, b.ints([0]), b.ints([channels]), b.ints([rank - 1])])
  }

  /** Mean over positions, [N, C]. */
  imageMeans(b: Builder, t: Twin): Value {
    const [n, c] = t.dims
    const means = b.op('GlobalAveragePool', [t.value], {}, { domain: DOMAIN })
    return this.#cut(b, b.op('Reshape', [means, b.ints([n, this.filled(c)])]), 2, c)
  }

  /**
   * Sum over positions of x times y, [N, C]. A channel of an image of y lies in memory as the kernel of a convolution of each
   * channel, N C of them: one pass over both, which writes nothing else.
   */
  imageProducts(b: Builder, x: Twin, y: Twin): Value {
    return this.#cut(b, this.#products(b, x, y), 2, x.dims[1])
  }

  #products(b: Builder, x: Twin, y: Twin): Value {
    const [n, c, h, w] = x.dims
    const channels = n * this.filled(c)
    const image = b.op('Reshape', [x.value, b.ints([1, channels, h, w])])
    const kernel = b.op('Reshape', [y.value, b.ints([channels, 1, h, w])])
    const sums = b.op('Conv', [image, kernel], { kernel_shape: [h, w], group: channels }, { domain: DOMAIN })
    return b.op('Reshape', [sums, b.ints([n, this.filled(c)])])
  }

  /** The same over images and positions, [C]. */
  channelProducts(b: Builder, x: Twin, y: Twin): Value {
    const sums = b.op('ReduceSum', [this.#products(b, x, y), b.ints([0])], { keepdims: 0 })
    return this.#cut(b, sums, 1, x.dims[1])
  }

  /** Mean over images and positions, [C]: of each image first, for which the engine has a kernel. */
  channelMean(b: Builder, t: Twin): Value {
    const type = { elem: 'float32', dims: [t.dims[1]] } as const
    return b.op('ReduceMean', [this.imageMeans(b, t), b.ints([0])], { keepdims: 0 }, { type })
  }

  /** x * scale + shift, [C] each: a convolution of each channel with one weight, the fastest kernel for it. */
  affine(b: Builder, { value, dims }: Twin, scale: Value, shift: Value | null): Value {
    const [c, channels] = [dims[1], this.filled(dims[1])]
    const vector = (v: Value, to: readonly number[]): Value =>
      b.op('Reshape', [this.filledUp(b, b.op('Reshape', [v, b.ints([c])]), 1, c), b.ints(to)])
    const inputs = [value, vector(scale, [channels, 1, 1, 1])]
    if (shift) inputs.push(c === channels ? shift : vector(shift, [channels]))
    return b.op('Conv', inputs, { kernel_shape: [1, 1], group: channels }, { domain: DOMAIN })
  }

  /** x * scale + shift with numbers of each image, [N, C, 1, 1]; null: 1 and 0. */
  affineOfImages(b: Builder, { value, dims }: Twin, scale: Value | null, shift: Value | null): Value {
    const [n, c, h, w] = dims
    const channels = n * this.filled(c)
    const vector = (v: Value): Value => this.filledUp(b, b.op('Reshape', [v, b.ints([n, c])]), 2, c)
    const ones = (): Value => b.shared(`ones_${channels}`, Tensor.float32([channels], Array<number>(channels).fill(1)))
    const weight = b.op('Reshape', [scale ? vector(scale) : ones(), b.ints([channels, 1, 1, 1])])
    const inputs = [b.op('Reshape', [value, b.ints([1, channels, h, w])]), weight]
    if (shift) inputs.push(b.op('Reshape', [vector(shift), b.ints([channels])]))
    const y = b.op('Conv', inputs, { kernel_shape: [1, 1], group: channels }, { domain: DOMAIN })
    return this.closed(b, y, dims)
  }
}

/** `v` with channels of zeros after its own, up to a multiple of what ReorderInput requires. */
function inFours(b: Builder, v: Value): Value {
  const dims = v.type?.dims ?? null
  if (!isDims4(dims) || reorderable(dims[1])) return v
  const [n, c, h, w] = dims
  const zeros = b.op('ConstantOfShape', [b.ints([n, CHANNEL_MULTIPLE - (c % CHANNEL_MULTIPLE), h, w])])
  return b.op('Concat', [v, zeros], { axis: 1 })
}

export const reorderable = (channels: number): boolean => channels % CHANNEL_MULTIPLE === 0

function once(made: Map<Value, Value>, v: Value, make: () => Value): Value {
  const value = made.get(v) ?? make()
  made.set(v, value)
  return value
}
