/**
 * int8 and int4 files that are right on every x86 processor: weights of layers whose sums would be cut off (saturating-sums.ts) become uint8
 * with a zero point of 128, the same values. onnxruntime's kernels for those add in 32 bits, and are slower where VNNI is:
 * it multiplies int8 weights alone. Of inputs it takes uint8 beside such weights.
 */

import type { Graph, Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { elementTypes } from '../graph/types.ts'
import { saturatingLayers } from './saturating-sums.ts'

const MIDDLE = 128

/** How many layers that were. */
export async function unsignWeights(model: Model): Promise<number> {
  const layers = await saturatingLayers(model)
  for (const weight of new Set(layers.map((layer) => layer.weight))) unsign(model.graph, weight)
  return layers.length
}

function unsign(graph: Graph, weight: Node): void {
  const ints = weight.input(0)
  const zero = weight.inputs[2] ?? null
  const { dims } = weight.input(1).constant!
  const size = dims.reduce((a, b) => a * b, 1)
  weight.setInput(0, ints.constant ? unsigned(graph, ints.name, ints.constant) : unsignedBehind(ints))
  weight.setInput(2, graph.addInitializer('_z', Tensor.of('uint8', dims, new Uint8Array(size).fill(MIDDLE))))
  for (const old of [ints, zero]) if (old?.constant && !old.isUsed) graph.removeInitializer(old)
}

const unsigned = (graph: Graph, name: string, ints: Tensor): Value =>
  graph.addInitializer(
    name,
    Tensor.of(
      'uint8',
      ints.dims,
      Uint8Array.from(ints.toNumbers(), (v) => v + MIDDLE),
    ),
  )

/** Of a weight that the file decodes at load. */
function unsignedBehind(ints: Value): Value {
  const b = ints.graph.after(ints.producer!)
  const wide = b.op('Cast', [ints], { to: elementTypes.float32.code })
  return b.op('Cast', [b.op('Add', [wide, b.scalar(MIDDLE)])], { to: elementTypes.uint8.code })
}
