/**
 * Puts the identity of quant-guard.ts before quantisers that onnxruntime would fuse with what comes before them, where no
 * integer kernel is intended: it would round float weights to 8 bits per tensor, remove a Clip, or make 4-bit forms of
 * operators that have none. `dropNoOps` has removed the guards of training, which knew no export format.
 *
 * None where a layer whose weights come after a DequantizeLinear comes right before, or before a ReLU: that kernel is
 * what the file is for. Nor after a layer with a float input, which no integer kernel takes.
 */
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { dequantizeBehind, isCast, isClipped, isQuantize, isRectifier } from '../../ops/facts.ts'
import { layerSlot } from '../../ops/index.ts'
import { drawnInto, hasWrongKernel, isCrossed } from '../../quant/quant-guard.ts'
import type { Layer } from '../weights/fold-affine.ts'
import type { Weight } from '../weights/weights.ts'
import { picks } from './quantise-pools.ts'

export function guardQuantisers(graph: Graph, layers: ReadonlyMap<Node, Layer>, paired: ReadonlySet<Weight>): void {
  const guards = new Map<Value, Value>()
  for (const q of [...graph.nodes()]) {
    if (!isQuantize(q)) continue
    const x = q.input(0)
    if (x.constant || isLimited(q) || !(hasWrongKernel(q) || isDrawn(x, q, layers, paired))) continue
    const guarded = guards.get(x) ?? graph.before(q).op('Sum', [x], {}, { name: `${x.name}.g`, type: x.type })
    guards.set(x, guarded)
    q.setInput(0, guarded)
  }
}

/** Whether it is one that `lowerToFloat` put after its Clip: not a quantiser of a pair, and nothing is fused past the Clip. */
const isLimited = (q: Node): boolean => isClipped(q.input(0)) && [...q.output.uses].every(isCast)

const isByte = (q: Node): boolean => q.inputs[2]?.constant?.type === 'uint8'

/** Picks elements of what a float kernel gives: slow on bytes (quantise-pools.ts). */
function isPoolOfFloats(pool: Node): boolean {
  const before = picks(pool) ? drawnInto(pool.input(0))?.into : undefined
  return before !== undefined && layerSlot(before) !== undefined && !dequantizeBehind(before.input(0))
}

function isDrawn(x: Value, q: Node, layers: ReadonlyMap<Node, Layer>, paired: ReadonlySet<Weight>): boolean {
  const drawn = drawnInto(x)
  if (!drawn) return false
  const { into, across } = drawn
  // bytes may go through it, if what gives them may be drawn in
  if (isCrossed(into) && isByte(q)) return isPoolOfFloats(into) || isDrawn(into.input(0), q, layers, paired)
  if (!layerSlot(into)) return true
  if (!dequantizeBehind(into.input(0))) return false
  const layer = layers.get(into)
  return !layer || !paired.has(layer.weight) || !across.every(isRectifier)
}
