/**
 * Leaves layers in floats that gain nothing as integers (`--mixed`), without quantisers between them:
 *
 *   large images of few channels   layers whose input has at least 100 positions a channel: their depthwise kernels spend most of the time
 *                                  on finding positions (120 x 160 x 16: 343 us, 123 in floats)
 *   ends                           a layer that only layers with float outputs read, and these: its result would be brought back
 *                                  to floats for each of them, what it reads is for all
 *
 * Other nodes are of floats where all that they read is. A quantiser stays wherever one of both sides is of integers, so that the
 * others' levels are those of the graph; what is not rounded comes closer to the float network. UltraFace at 320 x 240, kernel times: 3.3 ms, 2.7 so, float 2.9.
 */
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { sweepNode } from '../../graph/sweep.ts'
import { elementCount, isStatic } from '../../graph/types.ts'
import { rewire } from '../../layers/layers.ts'
import { type QuantPair, quantPairOf } from '../../layers/quant-pair.ts'
import { constantOf, isClip, isQuantize, isRectifier } from '../../ops/facts.ts'
import { channelSlot } from '../../ops/index.ts'
import { isCrossed } from '../../quant/quant-guard.ts'

/** Positions for each channel. */
const LARGE = 100
/** Fewer channels are computed as many. */
const LANES = 16

/** Types are known. Returns the layers in floats. */
export function leaveFloats(graph: Graph): Node[] {
  const pairs = new Map<Node, QuantPair>()
  for (const n of graph.nodes()) {
    const pair = quantPairOf(n)
    if (pair?.quantize && pair.axis === null && !constantOf(pair.source)) pairs.set(n, pair)
  }
  const layers = [...graph.nodes()].filter((n) => channelSlot(n) && pairs.has(n.input(0).producer!))
  const ends = layers.filter((n) => !isRounded(n.output))
  const isEnd = (n: Node): boolean => ends.includes(n)
  const leadsToEnds = (n: Node): boolean => {
    const readers = readersOf(n.output, pairs)
    return readers.length > 0 && readers.every(isEnd)
  }
  const last = layers.filter((n) => !isEnd(n) && leadsToEnds(n))
  const lastEnds = new Set(last.flatMap((n) => readersOf(n.output, pairs)))
  const chosen = new Set(layers.filter((n) => isLarge(n.input(0)) || last.includes(n) || lastEnds.has(n)))
  const floats = new Set<Node>()
  const isFloat = (v: Value): boolean => {
    const n = v.producer
    return !n || floats.has(n)
  }
  for (const n of graph.nodes()) {
    const own = n.inputs.filter((v): v is Value => v !== null && !constantOf(v))
    if (channelSlot(n) ? chosen.has(n) || (own.length > 0 && !pairs.has(n.input(0).producer!)) : own.every(isFloat))
      floats.add(n)
  }
  for (const pair of pairs.values()) {
    if (!isFloat(pair.source)) continue
    const readers = [...pair.dequantize.output.uses].filter((n) => floats.has(n))
    if (readers.length === 0) continue
    const x = withoutRounding(pair)
    for (const n of readers) for (const [i, v] of n.inputs.entries()) if (v === pair.dequantize.output) n.setInput(i, x)
    sweepNode(pair.dequantize)
  }
  for (const { dequantize } of pairs.values()) readOnce(dequantize, floats)
  return [...chosen]
}

/**
 * The engine gives each reader a DequantizeLinear of its own, and float kernels their layout of each: an identity that it does not remove
 * makes them share one (64 channels of 30 x 40: 62 us, 17 for the copy).
 */
function readOnce(dequantize: Node, floats: ReadonlySet<Node>): void {
  if (!dequantize.attached) return
  const { graph, output } = dequantize
  const readers = [...output.uses].filter((n) => floats.has(n))
  if (readers.length < 2) return
  const copy = graph.after(dequantize).op('Sum', [output], {}, { name: `${output.name}.f`, type: output.type })
  rewire(readers, output, copy)
}

/** What the pair rounds; of fewer than 8 bits kept to their range, which the network was trained with. */
function withoutRounding({ source, quantize, scale, zeroPoint, lo, hi, dequantize }: QuantPair): Value {
  const step = constantOf(scale)
  if (hi - lo >= 255 || !step) return source
  const zero = zeroPoint ? Number(constantOf(zeroPoint)!.toNumbers()[0]) : 0
  const b = dequantize.graph.before(quantize!)
  const limit = (level: number): Value => b.scalar(Math.fround((level - zero) * step.item()))
  return b.op('Clip', [source, limit(lo), limit(hi)], {}, { type: source.type })
}

function isLarge(x: Value): boolean {
  const dims = x.type?.dims?.slice(1)
  if (dims?.length !== 3 || !isStatic(dims)) return false
  const [channels, ...size] = dims
  return elementCount(size) >= LARGE * Math.max(channels!, LANES)
}

const isRounded = (v: Value): boolean => readersBehind(v).some(isQuantize)

/** Those behind what is computed together with a layer, or on the bytes that it gives, in its place. */
const readersBehind = (v: Value): Node[] =>
  [...v.uses].flatMap((n) => (isRectifier(n) || isClip(n) || isCrossed(n) ? readersBehind(n.output) : [n]))

/** Behind quantisers, too. */
function readersOf(v: Value, pairs: ReadonlyMap<Node, QuantPair>): Node[] {
  return readersBehind(v).flatMap((n) => {
    const d = isQuantize(n) ? [...n.output.uses][0] : undefined
    return d && pairs.has(d) ? [...d.output.uses] : [n]
  })
}
