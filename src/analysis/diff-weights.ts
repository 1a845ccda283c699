/**
 * How the numbers of two models differ: tensors by name, and layers by what they compute with (after mask, quantiser
 * or decoder), so that a packed file can be compared with the graph that it was made from.
 *
 * Layers are matched by name, else in order where operator and shape agree. Of a pair:
 *
 *   maxChange = max |a - b|        relativeChange = ||a - b|| / ||a||
 *
 * An export moves factors between a layer and its surroundings (a folded normalisation, a quantiser's scale). Where b is
 * a times one positive or negative factor for each output channel, the layer counts as rescaled.
 */
import type { Graph } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { elementTypes } from '../graph/types.ts'
import { type EffectiveLayer, effectiveLayers } from './layers.ts'
import { oneSample } from './one-sample.ts'

export interface Change {
  readonly maxChange: number
  /** null where `a` is all zeros. */
  readonly relativeChange: number | null
}

export interface TensorFacts {
  readonly name: string
  readonly type: string
  readonly dims: readonly number[]
}

export interface TensorChange extends TensorFacts {
  readonly before: Omit<TensorFacts, 'name'>
  /** null where shapes differ, or there are no numbers. */
  readonly change: Change | null
}

export interface TensorDiff {
  readonly added: readonly TensorFacts[]
  readonly removed: readonly TensorFacts[]
  readonly changed: readonly TensorChange[]
  readonly same: number
}

export interface LayerFacts {
  readonly sparsity: number
  readonly weightBits: number
  readonly valueBits: number
  readonly activationBits: number
}

export interface LayerChange {
  /** In the first model; in the second where the layer is new. */
  readonly name: string
  readonly op: string
  readonly shape: readonly number[]
  readonly before: LayerFacts | null
  readonly after: LayerFacts | null
  readonly change: Change | null
  /** The change is one factor for each output channel, up to float32 rounding. */
  readonly rescaled: boolean
}

export function diffTensors(a: Graph, b: Graph): TensorDiff {
  const tensors = (g: Graph): Map<string, Tensor> => new Map(Array.from(g.stored(), (v) => [v.name, v.stored!]))
  const [before, after] = [tensors(a), tensors(b)]
  const facts = ([name, t]: readonly [string, Tensor]): TensorFacts => ({ name, type: t.type, dims: t.dims })
  const common = [...before].flatMap(([name, x]) => {
    const y = after.get(name)
    return y ? [{ name, x, y }] : []
  })
  const changed = common.filter(({ x, y }) => x !== y && !x.equals(y))
  return {
    added: [...after].filter(([name]) => !before.has(name)).map(facts),
    removed: [...before].filter(([name]) => !after.has(name)).map(facts),
    changed: changed.map(({ name, x, y }) => ({
      ...facts([name, y]),
      before: { type: x.type, dims: x.dims },
      change: changeOf(x, y),
    })),
    same: common.length - changed.length,
  }
}

/** Every layer of both models, in the order of the first, then those that only the second has. */
export async function diffLayers(a: Model, b: Model, warn: (message: string) => void): Promise<LayerChange[]> {
  // as `info` sees them, which has already warned about what is unknown
  const layersOf = async (m: Model): Promise<EffectiveLayer[]> => effectiveLayers(await oneSample(m), warn)
  const [before, after] = [await layersOf(a), await layersOf(b)]
  const pairs = matchLayers(before, after)
  const taken = new Set(pairs.values())
  const only = (l: EffectiveLayer, x: LayerFacts | null, y: LayerFacts | null): LayerChange => ({
    ...{ name: l.name, op: l.node.op, shape: l.values.dims, before: x, after: y, change: null, rescaled: false },
  })
  return [
    ...before.map((x) => {
      const y = pairs.get(x)
      if (!y) return only(x, factsOf(x), null)
      const change = changeOf(x.values, y.values)
      return { ...only(x, factsOf(x), factsOf(y)), change, rescaled: change !== null && isRescaled(x, y) }
    }),
    ...after.filter((y) => !taken.has(y)).map((y) => only(y, null, factsOf(y))),
  ]
}

const factsOf = (l: EffectiveLayer): LayerFacts => ({
  sparsity: l.values.size === 0 ? 0 : l.zeros / l.values.size,
  weightBits: l.weightBits,
  valueBits: l.valueBits,
  activationBits: l.activationBits,
})

function matchLayers(a: readonly EffectiveLayer[], b: readonly EffectiveLayer[]): Map<EffectiveLayer, EffectiveLayer> {
  const like = (x: EffectiveLayer, y: EffectiveLayer): boolean =>
    x.node.op === y.node.op && x.values.dims.join() === y.values.dims.join()
  // an export renames layers (a folded normalisation's output is the layer's): then only their order remains to go by
  if (a.length === b.length && a.every((x, i) => like(x, b[i]!))) return new Map(a.map((x, i) => [x, b[i]!]))
  const byName = new Map(b.map((y) => [y.name, y]))
  return new Map(
    a.flatMap((x) => {
      const y = byName.get(x.name)
      return y ? [[x, y] as const] : []
    }),
  )
}

/** null where there is nothing to subtract: different shapes, strings. */
export function changeOf(a: Tensor, b: Tensor): Change | null {
  if (a.dims.join() !== b.dims.join() || !isNumeric(a) || !isNumeric(b)) return null
  const [x, y] = [a.toNumbers(), b.toNumbers()]
  let [largest, squares, norm] = [0, 0, 0]
  for (let i = 0; i < x.length; i++) {
    const d = Math.abs(x[i]! - y[i]!)
    // infinities that are the same in both, and NaN next to NaN, are not a change
    if (Object.is(x[i], y[i]) || d === 0) {
      norm += x[i]! ** 2
      continue
    }
    largest = Math.max(largest, Number.isNaN(d) ? Number.POSITIVE_INFINITY : d)
    squares += d * d
    norm += x[i]! ** 2
  }
  return { maxChange: largest, relativeChange: norm === 0 ? null : Math.sqrt(squares / norm) }
}

/** Float32 rounding of two multiplications, with room. */
const RESCALE_ERROR = 1e-6

function isRescaled({ node, slot, values: a }: EffectiveLayer, { values: b }: EffectiveLayer): boolean {
  const axis = slot.outputAxis(node)
  const [x, y] = [a.toFloat32(), b.toFloat32()]
  const channels = a.dims[axis] ?? 1
  const inner = a.dims.slice(axis + 1).reduce((n, d) => n * d, 1)
  const channelOf = (i: number): number => Math.floor(i / inner) % channels
  // the factor of a channel: at its largest weight
  const at = new Int32Array(channels).fill(-1)
  for (let i = 0; i < x.length; i++) {
    const c = channelOf(i)
    if (x[i] !== 0 && (at[c]! < 0 || Math.abs(x[i]!) > Math.abs(x[at[c]!]!))) at[c] = i
  }
  let same = true
  for (let i = 0; i < x.length; i++) {
    const top = at[channelOf(i)]!
    if (top < 0) {
      if (y[i] !== 0) return false
      continue
    }
    const factor = y[top]! / x[top]!
    if (factor === 0 || Math.abs(y[i]! - x[i]! * factor) > RESCALE_ERROR * Math.abs(y[top]!)) return false
    same &&= factor === 1
  }
  return !same
}

const isNumeric = (t: Tensor): boolean => elementTypes[t.type].bits > 0 && !/string|complex|float8|e8m0/.test(t.type)
