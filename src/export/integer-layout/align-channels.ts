/**
 * Rounds numbers of channels up to what integer kernels work in. onnxruntime's QLinearConv multiplies straight from the image, and
 * rounds in registers, where input channels are a multiple of 4 and output channels, or those of a depthwise convolution, of 16
 * (MlasConvSym, on AVX2, AVX-512 and VNNI). Of other numbers it copies each window first and rounds sums that it wrote to memory
 * (AVX-512 VNNI, one thread, us):
 *
 *   3x3 of 32 x 32, 48 -> 12   72   as 48 -> 16   24        depthwise 3x3 of 32 x 32, 24   53   as 32   30
 *   3x3 of 30 x 40,  8 -> 12   51   as  8 -> 16   29        depthwise 3x3 of 16 x 16, 90   46   as 96   22
 *
 * Channels that are added have weights and biases of 0, so they hold 0, and weights of 0 where they are read: no value
 * changes. Values that are added up, multiplied or pooled get the same channels; Concat puts them between those of its operands.
 * Only where integer convolutions give the channels and nothing but such convolutions and what treats channels one by one reads
 * them; in front of another reader of values with one position (Flatten behind a pool) a Gather takes the true ones.
 * Images have channels added by pad-images.ts.
 */
import { TiedNumbers } from '../../base/tied-numbers.ts'
import { featuresOf, flowOf } from '../../channels/channel-slots.ts'
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { type Channels, type IntegerConv, integerConv, plain, relay } from './conv-channels.ts'

/** Of output channels, and of those of depthwise convolutions. */
const STEP = 16
/** Fewer channels are not worth 16. */
const LEAST = 8
/** 1x1 convolutions give 24 channels as quickly as 32, and those that read them are quicker; 56 are not worth as much as 64. */
const EIGHT = 8
const GROWTH = 1.2

export const roundUp = (n: number, step: number): number => Math.ceil(n / step) * step

/** `typed`: the same graph with types. Whether anything changed. */
export function alignChannels(graph: Graph, typed: Graph): boolean {
  return new Alignment(graph, (v) => typed.find(v.name)?.type?.dims ?? null).run()
}

type Dims = readonly (number | string | null)[] | null

class Alignment {
  readonly #graph: Graph
  readonly #dims: (v: Value) => Dims
  readonly #ties = new TiedNumbers()
  readonly #numbers = new Map<Value, number>()
  readonly #convs = new Map<Node, IntegerConv>()
  /** Values of several positions that a convolution gives, by what they are tied to. */
  readonly #given = new Map<number, Value>()
  /** What convolutions larger than 1x1 give, likewise. */
  readonly #windowed = new Set<number>()
  readonly #joined: (readonly [Value, readonly Value[]])[] = []
  /** Readers that need the true channels, and have one position. */
  readonly #picky: (readonly [Node, number])[] = []
  readonly #layouts = new Map<number, Channels>()

  constructor(graph: Graph, dims: (v: Value) => Dims) {
    this.#graph = graph
    this.#dims = dims
  }

  run(): boolean {
    for (const v of this.#graph.inputs) this.#pin(v)
    for (const n of this.#graph.nodes()) this.#visit(n)
    for (const v of this.#graph.outputs) this.#pin(v)
    this.#settle()
    let changed = false
    for (const conv of this.#convs.values()) {
      const [x, y] = [this.#layoutOf(conv.node.input(0)), this.#layoutOf(conv.node.output)]
      if (x.isPlain && y.isPlain) continue
      relay(conv, x, y)
      changed = true
    }
    for (const [node, i] of this.#picky) this.#pick(node, i)
    return changed
  }

  #visit(n: Node): void {
    const conv = integerConv(n, this.#dims)
    if (conv) {
      this.#layer(conv)
      return
    }
    const features = featuresOf(n).filter((v) => v.producer && !this.#isParameter(v))
    const flow = n.outputs.length === 1 && n.subgraphs.length === 0 ? flowOf(n) : null
    if (flow === 'joined' && features.length === n.inputs.length && features.length > 1)
      this.#joined.push([n.output, features])
    else if ((flow === 'same' || flow === 'product') && this.#fits(n, features))
      for (const v of features) this.#tie(v, n.output)
    else {
      for (const v of n.outputs) if (v) this.#pin(v)
      for (const [i, v] of n.inputs.entries()) if (v?.producer) this.#needs(n, i, v)
    }
  }

  #layer(conv: IntegerConv): void {
    const { node } = conv
    this.#convs.set(node, conv)
    if (conv.isDepthwise) this.#tie(node.input(0), node.output)
    if (this.#positions(node.output) !== 1) this.#given.set(this.#number(node.output), node.output)
  }

  /** Integers, scales and biases on their way to a layer have no image's rank. */
  #isParameter(v: Value): boolean {
    return this.#dims(v)?.length !== 4
  }

  /** Whether all that are computed have the channels of the result, and constants are one number. */
  #fits(n: Node, features: readonly Value[]): boolean {
    const channels = this.#dims(n.output)?.[1]
    const of = (v: Value): boolean => this.#dims(v)?.[1] === channels
    const isSpread = n.inputs.every((v) => !v || features.includes(v) || v.constant?.size === 1)
    return features.length > 0 && typeof channels === 'number' && isSpread && features.every(of)
  }

  #needs(node: Node, i: number, v: Value): void {
    if (this.#positions(v) === 1) this.#picky.push([node, i])
    else this.#pin(v)
  }

  #positions(v: Value): number | null {
    const dims = this.#dims(v)
    if (dims?.length !== 4) return null
    const [h, w] = dims.slice(2)
    return typeof h === 'number' && typeof w === 'number' ? h * w : null
  }

  #number(v: Value): number {
    const known = this.#numbers.get(v) ?? this.#ties.take(1)[0]!
    this.#numbers.set(v, known)
    return known
  }

  #root(v: Value): number {
    return this.#ties.root(this.#number(v))
  }

  #tie(a: Value, b: Value): void {
    this.#ties.tie(this.#number(a), this.#number(b))
  }

  #pin(v: Value): void {
    this.#ties.block([this.#number(v)], 'channels are as the network has them')
  }

  #isPinned(v: Value): boolean {
    return this.#ties.whyBlocked(this.#number(v)) !== null
  }

  /** Pins what Concat joins into a value that is pinned, or into one that two of them give. */
  #settle(): void {
    const results = new Map<number, Value>()
    for (const [y] of this.#joined) {
      const other = results.get(this.#root(y))
      if (other && other !== y) this.#pin(y)
      results.set(this.#root(y), y)
    }
    for (let more = true; more; ) {
      more = false
      for (const [y, parts] of this.#joined)
        for (const v of this.#isPinned(y) ? parts : [])
          if (!this.#isPinned(v)) {
            this.#pin(v)
            more = true
          }
    }
    for (const v of [...this.#convs.values()].filter(hasWindow).map((c) => c.node.output))
      this.#windowed.add(this.#root(v))
    for (const [number, v] of this.#given) {
      const root = this.#ties.root(number)
      const channels = this.#dims(v)?.[1]
      const isJoined = this.#joined.some(([y]) => this.#root(y) === root)
      if (this.#isPinned(v) || isJoined || typeof channels !== 'number' || channels < LEAST) continue
      const size = roundUp(channels, STEP)
      if (channels % EIGHT === 0 && size > GROWTH * channels && !this.#windowed.has(root)) continue
      this.#layouts.set(root, plain(channels, size))
    }
  }

  #layoutOf(v: Value): Channels {
    const root = this.#root(v)
    const known = this.#layouts.get(root)
    if (known) return known
    const parts = this.#isPinned(v) ? undefined : this.#joined.find(([y]) => this.#root(y) === root)?.[1]
    const layout = parts ? joined(parts.map((p) => this.#layoutOf(p))) : plain(this.#dims(v)?.[1] as number)
    this.#layouts.set(root, layout)
    return layout
  }

  #pick(node: Node, i: number): void {
    const v = node.inputs[i]
    if (!v || !this.#numbers.has(v)) return
    const { isPlain, at } = this.#layoutOf(v)
    if (isPlain) return
    const b = this.#graph.before(node)
    node.setInput(i, b.op('Gather', [v, b.ints(at)], { axis: 1 }, { name: '_i' }))
  }
}

const hasWindow = ({ dims }: IntegerConv): boolean => dims.slice(2).some((d) => d > 1)

function joined(parts: readonly Channels[]): Channels {
  const at: number[] = []
  let size = 0
  for (const p of parts) {
    for (const i of p.at) at.push(size + i)
    size += p.size
  }
  return { size, at, isPlain: parts.every((p) => p.isPlain) }
}
