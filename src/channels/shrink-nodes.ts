/** Removes channels from the constants of nodes: weights with masks and quantiser scales, biases, normalisations. */

import type { Node, Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import { Tensor } from '../graph/tensor.ts'
import { elementTypes } from '../graph/types.ts'
import { addBias, elementOf } from '../layers/layer-algebra.ts'
import { asInitializer, rewire, type WeightLayer } from '../layers/layers.ts'
import { dropConstant } from '../layers/remove-unused.ts'
import { biasOf, constantOf } from '../ops/facts.ts'
import { channelSlot, findOp } from '../ops/index.ts'
import { isDepthwise } from './channel-layers.ts'
import type { Merge } from './channel-plan.ts'

export interface Kept {
  /** Channels that stay; null: all. */
  readonly inputs: readonly number[] | null
  readonly outputs: readonly number[] | null
  readonly shift: Float64Array | null
  readonly merge: Merge | null
}

/** The indices `keep` of one axis. */
export function sliceAxis(t: Tensor, axis: number, keep: readonly number[]): Tensor {
  const inner = t.dims.slice(axis + 1).reduce((a, b) => a * b, 1)
  const outer = t.dims.slice(0, axis).reduce((a, b) => a * b, 1)
  const width = t.dims[axis]!
  const dims = t.dims.map((d, i) => (i === axis ? keep.length : d))
  const { bits } = elementTypes[t.type]
  if (bits % 8 !== 0) {
    const values = t.toNumbers()
    const out: number[] = []
    for (let o = 0; o < outer; o++)
      for (const k of keep) for (let i = 0; i < inner; i++) out.push(values[(o * width + k) * inner + i]!)
    return Tensor.from(t.type, dims, out)
  }
  const run = (inner * bits) / 8
  const bytes = new Uint8Array(outer * keep.length * run)
  const from = t.bytes
  for (let o = 0, at = 0; o < outer; o++)
    for (const k of keep) {
      bytes.set(from.subarray((o * width + k) * run, (o * width + k + 1) * run), at)
      at += run
    }
  return new Tensor(t.type, dims, bytes)
}

/** Whether an initializer is read only by `readers`, so that it can be changed in place. */
const isOwn = (v: Value, readers: readonly Node[]): boolean =>
  v.constant !== null && !v.isOutput && [...v.uses].every((n) => readers.includes(n))

/** Gives `readers` a constant of their own in place of `v`; the only readers of an initializer get it changed in place. */
function replaceConstant(v: Value, next: Tensor, readers: readonly Node[]): void {
  const known = constantOf(v)!
  if (known.equals(next)) return
  if (isOwn(v, readers)) {
    v.setConstant(next)
    return
  }
  const made = v.graph.addInitializer(v.name, next)
  for (const [k, text] of v.metadata) made.metadata.set(k, text)
  rewire(readers, v, made)
  dropConstant(v)
}

export function shrinkLayer(n: Node, layer: WeightLayer, { inputs, outputs, shift, merge }: Kept): void {
  const depthwise = isDepthwise(n, layer)
  const { weight, quant, maskNode } = layer
  const mask = maskNode && ownMask(maskNode, layer.mask!)
  if (merge) mergeInputs(layer, mask, merge)
  const cut = (t: Tensor): Tensor => {
    let out = t
    const along = (axis: number | null, keep: readonly number[] | null): void => {
      if (axis !== null && keep && out.dims[axis] === layer.tensor.dims[axis]) out = sliceAxis(out, axis, keep)
    }
    along(layer.outputAxis, outputs)
    if (!depthwise) along(layer.inputAxis, inputs)
    return out
  }
  const holder = asInitializer(weight)
  holder.setConstant(cut(holder.constant!))
  if (maskNode && mask?.constant) shrinkMask(maskNode, mask, cut(mask.constant))
  if (quant && quant.axis !== null) {
    const keep = quant.axis === layer.outputAxis ? outputs : depthwise ? null : inputs
    const halves = [quant.quantize, quant.dequantize].filter((x) => x !== null)
    for (const v of new Set(halves.flatMap((h) => h.inputs.slice(1))))
      if (v && keep) replaceConstant(v, sliceAxis(constantOf(v)!, 0, keep), halves)
  }
  for (let v: Value | null = n.input(channelSlot(n)!.input); v && !v.constant; v = v.producer?.inputs[0] ?? null)
    v.setType(null)
  const bias = biasOf(n)
  const given = constantOf(bias)
  const width = given?.dims.length ? given.dims.length - 1 : null
  if (bias && given && outputs && width !== null && given.dims[width] !== 1)
    replaceConstant(bias, sliceAxis(given, width, outputs), [n])
  if (depthwise && inputs) n.setAttribute('group', inputs.length)
  if (shift) addShift(n, layer, outputs ? Float64Array.from(outputs, (o) => shift[o]!) : shift)
}

function addShift(n: Node, layer: WeightLayer, c: Float64Array): void {
  const before = n.output
  const biased = addBias(layer, { k: new Float64Array(c.length).fill(1), c })
  if (biased === before) return
  const { graph } = n
  const { name } = before
  graph.replaceUses(before, biased, biased.producer!)
  biased.setType(before.type)
  if (biased.name === name) return
  // the name passes to what is now the layer's output
  graph.rename(before, graph.freshName(`${name}.unbiased`))
  graph.rename(biased, name)
}

/** A mask that no other node reads. */
function ownMask(node: Node, mask: Value): Value {
  if (isOwn(mask, [node])) return mask
  const made = mask.graph.addInitializer(mask.name, mask.constant!)
  for (const [k, text] of mask.metadata) made.metadata.set(k, text)
  rewire([node], mask, made)
  return made
}

/** W'_u = W_u + sum ratio_i W_i over masked weights; the mask then lets all of it through. */
function mergeInputs(layer: WeightLayer, mask: Value | null, { into, from }: Merge): void {
  const { tensor, inputAxis } = layer
  const w = Float64Array.from(tensor.toNumbers())
  const m = mask ? Float32Array.from(mask.constant!.toFloat32()) : null
  const inner = tensor.dims.slice(inputAxis! + 1).reduce((a, b) => a * b, 1)
  const width = tensor.dims[inputAxis!]!
  for (let e = 0; e < w.length; e++) {
    if (Math.floor(e / inner) % width !== into) continue
    let sum = w[e]! * (m?.[e] ?? 1)
    for (const { channel, ratio } of from) {
      const other = e + (channel - into) * inner
      sum += ratio * w[other]! * (m?.[other] ?? 1)
    }
    w[e] = sum
    if (m) m[e] = sum === 0 ? 0 : 1
  }
  asInitializer(layer.weight).setConstant(Tensor.from(elementOf(layer), tensor.dims, w))
  if (m && mask) mask.setConstant(Tensor.from(mask.constant!.type, mask.constant!.dims, m))
}

/** A mask that no longer masks anything is removed; one of whole channels records how many of them are left. */
function shrinkMask(node: Node, mask: Value, next: Tensor): void {
  const values = next.toFloat32()
  if (values.every((x) => x === 1)) {
    node.graph.replaceUses(node.output, node.input(0))
    node.graph.remove(node)
    dropConstant(mask)
    return
  }
  mask.setConstant(next)
  if (marks.pattern.get(node) !== 'channel') return
  const share = values.filter((x) => x === 0).length / values.length
  marks.scope.set(node, 'layer')
  marks.channels.drop(node)
  marks.sparsity.set(node, share)
}

/** Constants next to feature maps of `width` channels, and the number of channels in a Reshape's shape. */
export function shrinkConstants(
  n: Node,
  { width, rank, keep }: { width: number; rank: number; keep: readonly number[] },
): void {
  const def = findOp(n)
  for (const v of new Set(n.inputs)) {
    const t = constantOf(v)
    if (!v || !t) continue
    const axis = def?.broadcasts ? t.dims.length - rank + 1 : def?.parameters && t.dims.length === 1 ? 0 : -1
    if (axis >= 0 && t.dims[axis] === width && width > 1) replaceConstant(v, sliceAxis(t, axis, keep), [n])
  }
  const shape = def?.carries === 'shape' && rank === 2 ? n.inputs[1] : null
  if (!shape) return
  const known = constantOf(shape)
  const entries = known?.size === 2 ? Array.from(known.toNumbers()) : []
  if (entries[1] === width) replaceConstant(shape, Tensor.int64([2], [entries[0]!, keep.length]), [n])
  else if (!known && keep.length < width) flattenAnyWidth(n, shape)
}

/** In place of a shape that is computed, as `x.view(x.size(0), 128)` is exported: the batch, and all the rest. */
function flattenAnyWidth(reshape: Node, shape: Value): void {
  reshape.setInput(1, reshape.graph.addInitializer(shape.name, Tensor.int64([2], [0, -1])))
  reshape.setAttribute('allowzero', null)
  dropUnread(shape)
}

function dropUnread(v: Value): void {
  dropConstant(v)
  const node = v.producer
  if (!node?.attached || node.outputs.some((x) => x?.isUsed)) return
  const inputs = new Set(node.inputs)
  node.graph.remove(node)
  for (const x of inputs) if (x) dropUnread(x)
}
