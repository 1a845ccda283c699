/**
 * The step s and zero point z of an activation quantiser Q by what it does to the layers that read it: of a grid about the present
 * ones, the least
 *
 *   sum over layers    E |W Q(x) - W x|^2 / E |W x|^2        both sides less their means, by output channel
 *
 * with x the float network's value and W its weights. Means do not count, since biases take them up. The tensor's own squared
 * error is the same where all channels weigh the same; a layer that has scaled some of them up cannot do with a step that
 * is coarse for those.
 *
 * Not on inputs x' that the quantisers before have changed, against what the layer gives in the float network: the further x' is
 * off, the more a range wins that makes everything smaller.
 *
 * Where a convolution has far more positions than an error needs, of every sample some count. Candidates are computed side by side in one run; memory does not grow with the data.
 */
import type { Builder } from '../graph/builder.ts'
import type { Node, Value } from '../graph/graph.ts'
import { elementTypes } from '../graph/types.ts'
import { outputChannels } from '../layers/layer-algebra.ts'
import type { WeightLayer } from '../layers/layers.ts'
import type { QuantPair } from '../layers/quant-pair.ts'
import { isMatrixProduct } from '../ops/facts.ts'
import type { ActivationRange } from './activation-range.ts'
import type { LayerWalk, Probe, WalkSite } from './layer-walk.ts'
import { attributesFor, type Every, isPointwise, takeEvery } from './thin-positions.ts'

/** A quantiser of the quantised network; in the float one, what it rounds and the layers that read that, one for each node. */
export interface RangeOf {
  readonly pair: QuantPair
  readonly source: Value
  readonly readers: readonly RangeReader[]
}

export interface RangeReader {
  readonly layer: WeightLayer
  readonly node: Node
  readonly data: number
  /** The positions of a convolution that the error is taken from (thin-positions.ts); all by default. */
  readonly every?: Every | undefined
}

/** Multiples of the present step, where the zero point moves too, and where it is 0. */
const STEPS = [0.6, 0.75, 0.87, 1, 1.15]
const STEPS_FROM_ZERO = [0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.12, 1.25]
/** Zero points to either side, as a part of all integers. */
const SHIFT = 1 / 15

/** The present range comes first: it stays where nothing is better. */
export function candidatesOf({ scale, zeroPoint, hi }: QuantPair, nonNegative: boolean): readonly ActivationRange[] {
  const s = scale.constant!.toNumbers()[0]!
  const z = zeroPoint?.constant?.toNumbers()[0] ?? 0
  const isFixed = !zeroPoint || (z === 0 && nonNegative)
  const by = Math.max(1, Math.round(hi * SHIFT))
  const zeros = isFixed ? [z] : [z, z - by, z + by].filter((x) => x >= 0 && x <= hi)
  const grid = zeros.flatMap((zero) =>
    (isFixed ? STEPS_FROM_ZERO : STEPS).map((k) => ({ scale: Math.fround(k * s), zeroPoint: zero })),
  )
  const isPresent = (r: ActivationRange): boolean => r.scale === s && r.zeroPoint === z
  return [{ scale: s, zeroPoint: z }, ...grid.filter((r) => !isPresent(r) && r.scale > 0)]
}

/** The best of the candidates, and its error beside that of the first, on a walk through the float network. */
export async function searchRange(
  walk: LayerWalk,
  of: RangeOf,
  candidates: readonly ActivationRange[],
): Promise<{ readonly range: ActivationRange; readonly before: number; readonly after: number }> {
  let names: readonly ReaderNames[] = []
  const sums = of.readers.map(() => new ErrorSums(candidates.length))
  let seen = 0
  const probe: Probe = (site) => {
    const added = addProbes(site, of, candidates)
    names = added.names
    return added.held
  }
  await walk.step(of.readers[0]!.node, probe, ({ out, size: samples, count }) => {
    // a last batch that is filled up with copies is left out where there are others
    if (count < samples && seen > 0) return
    seen += count
    for (const [i, n] of names.entries()) {
      const size = out[n.size]!.toNumbers()[0]!
      sums[i]!.add(n, size, (name) => out[name]!.toFloat32())
    }
  })
  const errors = candidates.map((_, k) => sums.reduce((sum, s) => sum + s.share(k), 0))
  const best = errors.reduce((least, e, k) => (e < errors[least]! ? k : least), 0)
  return { range: candidates[best]!, before: errors[0]!, after: errors[best]! }
}

/** Values that take memory, for a walk's sizing: an engine has those of a few candidates at once. */
export const rangeProbe =
  (of: RangeOf): Probe =>
  (site) => {
    const { held } = addProbes(site, of, [{ scale: of.pair.scale.constant!.toNumbers()[0]!, zeroPoint: 0 }])
    return [...held, ...held, ...held]
  }

/** Names of outputs: means by channel and mean squares, of the float network's output and of each candidate's error. */
interface ReaderNames {
  readonly size: string
  readonly float: MomentNames
  readonly errors: readonly MomentNames[]
}

interface MomentNames {
  readonly mean: string
  readonly square: string
}

function addProbes(
  { graph, here }: WalkSite,
  { pair, source, readers }: RangeOf,
  candidates: readonly ActivationRange[],
) {
  const b = graph.append()
  const [reader] = readers
  // where it gives nothing else, no more of the input is rounded than what one layer looks at
  const isNarrow = readers.length === 1 && isPointwise(reader!.node, kernelOf(reader!.layer))
  const x = isNarrow ? takeEvery(b, here(source), reader!.every ?? [], 2) : here(source)
  const handOut = (v: Value): string => {
    graph.addOutput(v)
    return v.name
  }
  const moments = (y: Value, axes: Value): MomentNames => ({
    mean: handOut(b.op('ReduceMean', [y, axes], { keepdims: 0 })),
    square: handOut(b.op('ReduceMean', [b.op('Mul', [y, y])], { keepdims: 0 })),
  })
  const rounded = candidates.map((range) => roundedBy(b, x, pair, range))
  const held: Value[] = [...rounded]
  const names = readers.map(({ layer, node, data, every = [] }): ReaderNames => {
    const axes = b.ints(axesBeside(layer))
    const some = isNarrow ? Object.fromEntries(node.attributes) : attributesFor(node, every)
    const whole = here(node.output)
    const float = channelsAt(b, layer, some ? takeEvery(b, whole, every, 2) : whole)
    const errors = rounded.map((q) => {
      const inputs = node.inputs.map((v, i) => (i === data ? q : v && here(v)))
      const y = b.op(node.op, inputs, some ?? Object.fromEntries(node.attributes))
      held.push(y)
      return moments(b.op('Sub', [channelsAt(b, layer, y), float]), axes)
    })
    return { size: handOut(b.op('Size', [float])), float: moments(float, axes), errors }
  })
  return { names, held }
}

const kernelOf = ({ tensor }: WeightLayer): number => tensor.dims.slice(2).reduce((a, b) => a * b, 1)

/** What a layer gives, in float32; of matrices as [rows, channels]. */
function channelsAt(b: Builder, layer: WeightLayer, output: Value): Value {
  const y = b.op('Cast', [output], { to: elementTypes.float32.code })
  return isMatrixProduct(layer.node) ? b.op('Reshape', [y, b.ints([-1, outputChannels(layer)])]) : y
}

/** All axes but that of the channels. */
const axesBeside = ({ node, tensor }: WeightLayer): number[] =>
  isMatrixProduct(node) ? [0] : tensor.dims.flatMap((_, i) => (i === 1 ? [] : [i]))

/** What the quantiser would give: Round(Clip(x / s, lo - z, hi - z)) s. */
function roundedBy(b: Builder, x: Value, { lo, hi, scale }: QuantPair, range: ActivationRange): Value {
  const elem = scale.constant!.type
  const s = b.scalar(range.scale, elem)
  const limits = [lo, hi].map((n) => b.scalar(n - range.zeroPoint, elem))
  return b.op('Mul', [b.op('Round', [b.op('Clip', [b.op('Div', [x, s]), ...limits])]), s])
}

/** Over all runs, of one layer. */
class ErrorSums {
  readonly #errors: readonly Spread[]
  readonly #float = new Spread()

  constructor(candidates: number) {
    this.#errors = Array.from({ length: candidates }, () => new Spread())
  }

  add(names: ReaderNames, size: number, read: (name: string) => Float32Array): void {
    this.#float.add(read(names.float.mean), read(names.float.square)[0]!, size)
    for (const [k, n] of names.errors.entries()) this.#errors[k]!.add(read(n.mean), read(n.square)[0]!, size)
  }

  /** Error of a candidate as a share of what the layer gives. */
  share(k: number): number {
    return this.#errors[k]!.spread / Math.max(this.#float.spread, Number.MIN_VALUE)
  }
}

/** Mean over channels of their variances. */
class Spread {
  #means: Float64Array | null = null
  #square = 0
  #size = 0

  add(means: Float32Array, square: number, size: number): void {
    this.#means ??= new Float64Array(means.length)
    for (let c = 0; c < means.length; c++) this.#means[c]! += size * means[c]!
    this.#square += size * square
    this.#size += size
  }

  get spread(): number {
    const means = this.#means ?? new Float64Array(1)
    const n = Math.max(1, this.#size)
    return this.#square / n - means.reduce((sum, m) => sum + (m / n) ** 2, 0) / means.length
  }
}
