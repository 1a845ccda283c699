/**
 * Adds channels to images whose number is no multiple of 4, for the reason of align-channels.ts: the first convolution of a network
 * reads three, and is then as slow in integers as in none (3x3, stride 2, 224 x 224 to 64 channels: 1012 us, 334 with four;
 * 240 x 320 to 16 channels: 610, 347). A Pad of the bytes, with the level that stands for 0, and weights of 0.
 *
 * Only images that nothing but integer convolutions reads.
 */
import type { Graph, Node } from '../../graph/graph.ts'
import { groupsOf, isDequantize, isFloor, isQuantize } from '../../ops/facts.ts'
import { roundUp } from './align-channels.ts'
import { type IntegerConv, integerConv, plain, relay } from './conv-channels.ts'

/** Of input channels. */
const STEP = 4

/** Whether there may be any. */
export const hasNarrowImages = (graph: Graph): boolean => [...graph.nodes()].some((n) => channelsToPad(n) !== null)

function channelsToPad(q: Node): number | null {
  if (!isQuantize(q) || !q.input(0).isInput || q.inputs[2]?.constant?.size !== 1) return null
  const dims = q.input(0).type?.dims
  const channels = dims?.length === 4 ? dims[1] : null
  return typeof channels === 'number' && channels % STEP !== 0 ? channels : null
}

/** `typed`: the same graph with types. */
export function padImages(graph: Graph, typed: Graph): void {
  for (const q of [...graph.nodes()]) {
    const channels = channelsToPad(q)
    if (channels === null) continue
    const readers = convolutionsOf(q, typed)
    if (!readers || readers.length === 0) continue
    const [x, size] = [q.output, roundUp(channels, STEP)]
    const b = graph.after(q)
    const pads = b.ints([0, 0, 0, 0, 0, size - channels, 0, 0])
    const padded = b.op('Pad', [x, pads, q.input(2)], {}, { name: '_i' })
    graph.replaceUses(x, padded, padded.producer!)
    for (const conv of readers) relay(conv, plain(channels, size), plain(conv.dims[0]!))
  }
}

/** What reads the bytes; null where something else does, too. */
function convolutionsOf(q: Node, typed: Graph): IntegerConv[] | null {
  const levels = [...q.output.uses].flatMap((n) => (isFloor(n) ? [...n.output.uses] : [n]))
  if (q.output.isOutput || !levels.every((d) => isDequantize(d) && !d.output.isOutput)) return null
  const found = levels
    .flatMap((d) => [...d.output.uses])
    .map((n) => integerConv(n, (v) => typed.find(v.name)?.type?.dims ?? null))
  return found.every((c): c is IntegerConv => c !== null && groupsOf(c.node) === 1) ? found : null
}
