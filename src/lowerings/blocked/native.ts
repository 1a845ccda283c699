/** Native operators (lowerings/native/) on blocked values. */
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { gradientsIn, withOriginOf } from '../../graph/hints.ts'
import { findOp } from '../../ops/index.ts'
import { featureMaps, STEP_DOMAIN, WEIGHT_GRADIENT } from '../native/operators.ts'
import { FEW, isConv } from './conv.ts'
import type { BlockedLayout } from './layout.ts'
import { isDims4 } from './weights.ts'

/** The feature maps that a native node reads. */
export const featureMapsOf = (n: Node): readonly Value[] =>
  n.domain === STEP_DOMAIN ? (n.inputs.slice(0, featureMaps.get(n.op) ?? 0) as readonly Value[]) : []

/** With as many lanes as the layout has, where a feature map is blocked, or that of a normalisation is wanted so. */
export function blockNative(node: Node, layout: BlockedLayout): boolean {
  const maps = featureMapsOf(node)
  const b = layout.graph.before(node)
  const first = maps.map((v) => layout.twin(v)).find((t) => t !== null) ?? layout.wantedTwin(b, maps.at(-1)!)
  if (!first) return false
  const inputs = [...maps.map((v) => layout.twinOf(b, v, first.dims).value), ...node.inputs.slice(maps.length)]
  const given = Object.fromEntries(node.attributes)
  const attributes = 'lanes' in given ? { ...given, lanes: layout.block } : given
  const made = b.ops(node.op, inputs, node.outputs.length, attributes, { domain: STEP_DOMAIN, ...withOriginOf(node) })
  made[0]!.setType(layout.typeOf(first.dims))
  node.outputs.slice(1).forEach((from, i) => {
    made[i + 1]!.setType(from!.type)
    layout.graph.replaceUses(from as Value, made[i + 1]!)
  })
  layout.replace(node, made[0]!, first.dims[1], first.dims)
  return true
}

/** A convolution whose weight gradient a node gives. */
export interface ConvGradient {
  readonly conv: Node
  readonly x: Value
  readonly dy: Value
}

/** By the node whose result is the weight gradient of a 2-D convolution of one group. */
export function convGradients(graph: Graph): Map<Node, ConvGradient> {
  const gradients = gradientsIn(graph)
  const found = new Map<Node, ConvGradient>()
  for (const conv of graph.nodes()) {
    if (!isConv(conv) || conv.int('group', 1) !== 1 || conv.string('auto_pad', 'NOTSET') !== 'NOTSET') continue
    const own = gradients.of(conv)
    const [dw, dy] = [own?.inputs[1], own?.outputs[0]]
    if (dw?.producer && dy && isDims4(conv.input(1).type?.dims ?? null))
      found.set(dw.producer, { conv, x: conv.input(0), dy })
  }
  return found
}

/** Where the output's gradient is blocked, and the input too or of few channels. */
export function blockNativeWeightGradient(node: Node, { conv, x, dy }: ConvGradient, layout: BlockedLayout): boolean {
  const weight = conv.input(1).type?.dims ?? null
  const [image, gradient] = [layout.twin(x), layout.twin(dy)]
  if (!isDims4(weight) || !gradient) return false
  const [out, channels, ...kernel] = weight
  if (!image && channels > FEW) return false
  // what reads it sees [O, I, ...], or does not ask for the shape
  const readers = [...node.output.uses]
  const asWeight = node.output.type?.dims?.join() === weight.join()
  if (!asWeight && !readers.every((n) => findOp(n)?.carries === 'shape')) return false
  const numbers = [
    ...[layout.block, image ? layout.block : 1, out, channels, ...kernel],
    ...[...conv.ints('strides', [1, 1]), ...conv.ints('dilations', [1, 1]), ...conv.ints('pads', [0, 0]).slice(0, 2)],
  ]
  const b = layout.graph.before(node)
  const attributes = { numbers: { kind: 'ints', value: numbers.map(BigInt) } as const }
  const options = { domain: STEP_DOMAIN, ...withOriginOf(node), type: { elem: 'float32', dims: weight } as const }
  const dw = b.op(WEIGHT_GRADIENT, [image?.value ?? x, gradient.value], attributes, options)
  layout.graph.replaceUses(node.output, dw)
  layout.graph.remove(node)
  return true
}
