/**
 * Means of channels that follow from BatchNormalization without data (Nagel, van Baalen, Blankevoort, Welling,
 * arXiv:1906.04721, appendix C): what it gives is taken to be normal with mean beta and deviation |gamma|, in the graph or
 * folded into a layer before it (the mark that fold-bn leaves). Behind limits a and b, with phi and Phi of the standard normal
 * distribution and u = (a - m) / s, v = (b - m) / s,
 *
 *   E = m (Phi(v) - Phi(u)) + s (phi(u) - phi(v)) + a Phi(u) + b (1 - Phi(v))
 *
 * Means go on through sums, concatenation, average pools and flattening; anything else leaves them unknown.
 */
import { cloneModel } from '../graph/clone.ts'
import type { Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { biasedOutput, outputChannels } from '../layers/layer-algebra.ts'
import { layersByNode } from '../layers/layers.ts'
import { outputStatistics } from '../layers/output-statistics.ts'
import { constantOf, isAddition, isChannelNorm, isQuantizer, isRectifier } from '../ops/facts.ts'
import { findOp } from '../ops/index.ts'
import { inferTypes } from '../runtime/isolated/infer-types.ts'

interface Known {
  readonly mean: Float64Array
  /** null where the distribution is no normal one. */
  readonly deviation: Float64Array | null
}

/** A look-up by name of a value: means by channel (axis 1, or columns), null where they are unknown. */
export async function normalMeans(model: Model): Promise<(name: string) => Float64Array | null> {
  const typed = cloneModel(model)
  await inferTypes(typed)
  const known = new Map<Value, Known>()
  const layers = layersByNode(typed.graph)
  for (const n of typed.graph.nodes()) {
    const layer = layers.get(n)
    const own = layer && outputStatistics(n, outputChannels(layer))
    if (layer && own) known.set(biasedOutput(layer), own)
    const found = behind(n, known)
    if (found && !known.has(n.output)) known.set(n.output, found)
  }
  return (name) => known.get(typed.graph.find(name)!)?.mean ?? null
}

function behind(n: Node, known: ReadonlyMap<Value, Known>): Known | null {
  const def = findOp(n)
  if (isChannelNorm(n)) return ofNorm(n)
  const x = known.get(n.inputs[0]!) ?? null
  if (x && isRectifier(n)) return limited(x, 0, Number.POSITIVE_INFINITY)
  const bounds = x && def?.bounds?.(n)
  if (x && bounds) return limited(x, bounds.least, bounds.most)
  if (isAddition(n)) return sumOf(n, known)
  if (def?.joinsAlong) return def.channels?.(n) === 'joined' ? joined(n, known) : null
  if (!x) return null
  if (isQuantizer(n) || def?.carries === 'value' || def?.carries === 'type') return x
  if (def?.keepsMean?.(n)) return { mean: x.mean, deviation: null }
  return def?.channels?.(n) === 'flattened' ? flattened(n, x) : null
}

function ofNorm(n: Node): Known | null {
  const [scale, shift] = findOp(n)!.parameters!.map((i) => constantOf(n.inputs[i])?.toNumbers())
  return scale && shift
    ? { mean: Float64Array.from(shift), deviation: Float64Array.from(scale, (s) => Math.abs(s)) }
    : null
}

function limited({ mean, deviation }: Known, a: number, b: number): Known | null {
  if (!deviation) return null
  return { mean: mean.map((m, c) => limitedMean(m, deviation[c]!, a, b)), deviation: null }
}

/** E of a normal variable kept between a and b. */
export function limitedMean(m: number, s: number, a: number, b: number): number {
  if (!(s > 0)) return Math.min(Math.max(m, a), b)
  const [u, v] = [(a - m) / s, (b - m) / s]
  const ends = (Number.isFinite(a) ? a * normal(u) : 0) + (Number.isFinite(b) ? b * (1 - normal(v)) : 0)
  return m * (normal(v) - normal(u)) + s * (density(u) - density(v)) + ends
}

const density = (x: number): number => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI)

/** Phi to 1e-7: Abramowitz and Stegun, 26.2.17. */
function normal(x: number): number {
  if (!Number.isFinite(x)) return x > 0 ? 1 : 0
  const t = 1 / (1 + 0.2316419 * Math.abs(x))
  const terms = [0.31938153, -0.356563782, 1.781477937, -1.821255978, 1.330274429]
  const tail = density(x) * terms.reduceRight((sum, k) => (sum + k) * t, 0)
  return x >= 0 ? 1 - tail : tail
}

function sumOf(n: Node, known: ReadonlyMap<Value, Known>): Known | null {
  const parts = n.inputs.map((v) => (v && known.get(v)) ?? null)
  const [x] = parts.filter((p) => p !== null)
  if (!x) return null
  const constant = n.inputs.map((v) => constantOf(v)).find((t) => t)
  if (constant) {
    const values = constant.toNumbers()
    const perChannel = constant.dims.filter((d) => d > 1).length <= 1 && [1, x.mean.length].includes(values.length)
    return perChannel
      ? { mean: x.mean.map((m, c) => m + values[values.length === 1 ? 0 : c]!), deviation: x.deviation }
      : null
  }
  if (parts.some((p) => p?.mean.length !== x.mean.length)) return null
  return { mean: x.mean.map((_, c) => parts.reduce((sum, p) => sum + p!.mean[c]!, 0)), deviation: null }
}

function joined(n: Node, known: ReadonlyMap<Value, Known>): Known | null {
  const parts = n.inputs.map((v) => known.get(v!))
  if (parts.some((p) => !p)) return null
  return { mean: Float64Array.from(parts.flatMap((p) => Array.from(p!.mean))), deviation: null }
}

function flattened(n: Node, { mean }: Known): Known | null {
  const inner = n
    .input(0)
    .type?.dims?.slice(2)
    .reduce<number>((p, d) => p * (typeof d === 'number' ? d : Number.NaN), 1)
  if (!inner) return null
  return { mean: repeat(mean, inner), deviation: null }
}

const repeat = (mean: Float64Array, times: number): Float64Array =>
  Float64Array.from({ length: mean.length * times }, (_, i) => mean[Math.floor(i / times)]!)
