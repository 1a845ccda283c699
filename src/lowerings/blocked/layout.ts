/**
 * Values in onnxruntime's blocked (NCHWc) layout: [N, C/c, H, W, c] in memory, where the engine still says [N, C, H, W].
 * A graph being rewritten holds such a value next to the plain one, its twin; nodes that still read the plain one get it
 * from a ReorderOutput, which index.ts removes in the end where there are none.
 */
import type { Builder } from '../../graph/builder.ts'
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { weightGradientOf } from '../../graph/hints.ts'
import { type Dim, isStatic } from '../../graph/types.ts'
import { type Dims4, isDims4 } from './weights.ts'

/** The engine's own domain for operators on blocked values. */
export const DOMAIN = 'com.microsoft.nchwc'
/** What ReorderInput requires of the number of channels. */
const CHANNEL_MULTIPLE = 4

export interface Twin {
  readonly value: Value
  /** Of the plain value: [N, C, H, W], C a multiple of the block. */
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

  /** `v` in blocked layout, reordered where it has no twin. Its channels may be any multiple of 4. */
  blocked(b: Builder, v: Value): Value {
    const made =
      this.#twins.get(v)?.value ?? once(this.#reordered, v, () => b.op('ReorderInput', [v], {}, { domain: DOMAIN }))
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
    const plain = this.graph.before(node).op('ReorderOutput', [value], { channels }, { domain: DOMAIN, type: y.type })
    this.#pair(plain, value, y.type?.dims ?? dims)
    this.#pair(y, value, y.type?.dims ?? dims)
    this.graph.replaceUses(y, plain)
    this.graph.remove(node)
  }

  #pair(plain: Value, value: Value, dims: readonly Dim[] | null): void {
    if (isStatic(dims) && dims.length === 4 && dims[1]! % this.block === 0)
      this.#twins.set(plain, { value, dims: dims as [number, number, number, number] })
  }

  /** [N, C/c, H, W, c]: how an ordinary operator sees a blocked value. Nothing moves. */
  opened(b: Builder, { value, dims: [n, c, h, w] }: Twin): Value {
    return b.op('Reshape', [value, b.ints([n, c / this.block, h, w, this.block])])
  }

  /** The inverse of `opened`. */
  closed(b: Builder, v: Value, dims: readonly number[]): Value {
    return b.op('Reshape', [v, b.ints(dims)])
  }

  /** Mean over images and positions, [C]: of each image first, for which the engine has a kernel. */
  channelMean(b: Builder, t: Twin): Value {
    const perImage = b.op('GlobalAveragePool', [t.value], {}, { domain: DOMAIN })
    const type = { elem: 'float32', dims: [t.dims[1]] } as const
    const rows = b.op('Reshape', [perImage, b.ints([t.dims[0], t.dims[1]])])
    return b.op('ReduceMean', [rows, b.ints([0])], { keepdims: 0 }, { type })
  }

  /** x * scale + shift, [C] each: a convolution of each channel with one weight, the fastest kernel for it. */
  affine(b: Builder, { value, dims }: Twin, scale: Value, shift: Value | null): Value {
    const weight = b.op('Reshape', [scale, b.ints([dims[1], 1, 1, 1])])
    const attributes = { kernel_shape: [1, 1], group: dims[1] }
    return b.op('Conv', shift ? [value, weight, shift] : [value, weight], attributes, { domain: DOMAIN })
  }
}

export const reorderable = (channels: number): boolean => channels % CHANNEL_MULTIPLE === 0

function once(made: Map<Value, Value>, v: Value, make: () => Value): Value {
  const value = made.get(v) ?? make()
  made.set(v, value)
  return value
}
