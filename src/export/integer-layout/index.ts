/**
 * Arranges the quantisers of an int8 file so that residual connections stay integers where onnxruntime's CPU provider
 * runs them, with standard operators and the same values:
 *
 *   channels     in the numbers that the kernels work in: of values (align-channels.ts) and of images (pad-images.ts)
 *   sums         Add between quantisers, where an operand was rounded from floats and in all sums of that, reads and gives
 *                [N, H W, C], as the integer convolutions do. In [N, C, H, W] each is surrounded by transpositions, which onnxruntime
 *                removes only where both operands have one; and it moves them back through anything that
 *                keeps four dimensions
 *   requantised  a quantised value that is read with another scale is added to 0: QLinearAdd instead of
 *                DequantizeLinear -> QuantizeLinear (1.0 us for 16 Ki values, was 1.9). No Max where it reads no negatives
 *   shortcuts    every second row and column, with channels of 0 added, is a 1x1 convolution (Slice -> Pad: 4 nodes that
 *                move values one by one)
 *   rowPairs     narrow convolutions on two rows at once (row-pairs.ts)
 *
 * ResNet-20, batch 32, is 1.96 times as fast as the float network without any of this, 2.2 times with the first three, 2.5
 * with pairs of rows (bench/results/export.json; AVX-512 VNNI). A quantiser's input may differ from before in the last
 * place of a float: close to the middle between two levels the result may be the other level. Does not apply to values
 * that are not [N, C, H, W] with fixed C, H and W.
 */

import type { Builder } from '../../graph/builder.ts'
import { cloneModel } from '../../graph/clone.ts'
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { marks } from '../../graph/marks.ts'
import type { Model } from '../../graph/model.ts'
import { sweepNode } from '../../graph/sweep.ts'
import { Tensor } from '../../graph/tensor.ts'
import { CORRECTION } from '../../layers/layers.ts'
import { dequantizeBehind } from '../../ops/facts.ts'
import { applyPass } from '../../pass-manager/manager.ts'
import { foldConstants } from '../../passes/fold-constants.ts'
import { inferTypes } from '../../runtime/isolated/infer-types.ts'
import { alignChannels } from './align-channels.ts'
import { Held, type Pairing, type Place, pairedDims, toFlat } from './held.ts'
import { hasNarrowImages, padImages } from './pad-images.ts'
import {
  floatConvolution,
  keepsRows,
  pairKernel,
  pairWindow,
  planRowPairs,
  readsPairs,
  shortcutWindow,
  type Window,
  windowOf,
} from './row-pairs.ts'
import { constantNumbers, dimsOf, type Step, stepsOf } from './steps.ts'

export interface ArrangeOptions {
  readonly rowPairs: boolean
}

export async function arrangeIntegers(model: Model, { rowPairs }: ArrangeOptions): Promise<void> {
  let typed = await typedCopy(model)
  if (alignChannels(model.graph, typed.graph)) typed = await typedCopy(model)
  spellPads(model.graph, typed.graph)
  const steps = stepsOf(model.graph, typed.graph)
  const plan = rowPairs ? planRowPairs(steps, typed.graph) : new Map<Value, Pairing>()
  const arrangement = new Arrangement(typed.graph, steps, plan)
  for (const step of steps.values()) arrangement.emit(step)
  arrangement.rewire()
  if (hasNarrowImages(model.graph)) padImages(model.graph, (await typedCopy(model)).graph)
}

async function typedCopy(model: Model): Promise<Model> {
  const typed = cloneModel(model)
  await applyPass(typed, foldConstants, { maxBytes: SHAPE_BYTES })
  await inferTypes(typed)
  return typed
}

/**
 * Pad with `axes` becomes Pad of all axes: onnxruntime 1.30 takes the pads for those of all axes when it moves a
 * transposition past it, and fails.
 */
function spellPads(graph: Graph, typed: Graph): void {
  for (const n of graph.nodes()) {
    if (!n.is('Pad') || !n.inputs[3]) continue
    const rank = typed.find(n.input(0).name)?.type?.dims?.length
    const [pads, axes] = [constantNumbers(n.input(1), typed), constantNumbers(n.inputs[3], typed)]
    if (rank === undefined || !pads || !axes) continue
    const all = new Array<number>(2 * rank).fill(0)
    for (const [i, axis] of axes.entries()) {
      const at = axis < 0 ? axis + rank : axis
      all[at] = pads[i]!
      all[rank + at] = pads[axes.length + i]!
    }
    const old = [n.input(1), n.inputs[3]]
    n.setInput(1, graph.before(n).ints(all))
    n.setInput(3, null)
    for (const v of old) if (v.constant && !v.isUsed) graph.removeInitializer(v)
  }
}

/** Shapes, axes, pads. */
const SHAPE_BYTES = 4096
const SHORT = { name: '_i' }
/** Work that is not the network's, which scores leave out. */
const EXTRA = { ...SHORT, metadata: marks.role.entry(CORRECTION) }

/** A convolution in its parts, which repeat for the second row of a pair. */
interface Parts {
  readonly window: Window
  /** [out, in, height, width] */
  readonly dims: readonly number[]
  readonly weights: Value
  /** The scales of integer weights, null for floats. */
  readonly scale: Tensor | null
  readonly bias: Value | null
  readonly extra: boolean
}

class Arrangement {
  readonly #typed: Graph
  readonly #steps: ReadonlyMap<Value, Step>
  readonly #plan: ReadonlyMap<Value, Pairing>
  readonly #byQuantiser: ReadonlyMap<Node, Step>
  /** Values that additions read. */
  readonly #summed: ReadonlySet<Value>
  readonly #held = new Map<Value, Held>()
  /** What several steps read: outputs of float convolutions in the form that their quantisers need, masks. */
  readonly #made = new Map<string, Value>()

  constructor(typed: Graph, steps: ReadonlyMap<Value, Step>, plan: ReadonlyMap<Value, Pairing>) {
    this.#typed = typed
    this.#steps = steps
    this.#plan = plan
    this.#byQuantiser = new Map([...steps.values()].map((s) => [s.quantize, s]))
    const sums = [...steps.values()].filter((s) => s.kind === 'sum')
    this.#summed = new Set(sums.flatMap((s) => s.operands.map((d) => d.input(0))))
  }

  /** Writes the step in its new form before its quantiser, or leaves it as it is. */
  emit(step: Step): void {
    const b = step.quantize.graph.before(step.quantize)
    const made = {
      float: () => this.#float(b, step),
      conv: () => this.#conv(b, step),
      shortcut: () => this.#shortcut(b, step),
      sum: () => this.#sum(b, step),
      requantised: () => this.#requantised(b, step),
    }[step.kind]()
    this.#held.set(step.value, made ?? new Held(step.value, { dims: step.dims, pairing: 'single', place: 'nchw' }))
  }

  /** Gives other readers the new values in the form that they expect, and removes what is no longer read. */
  rewire(): void {
    for (const { value } of [...this.#steps.values()].reverse()) {
      const held = this.#held.get(value)!
      if (held.value === value) continue
      for (const n of [...value.uses])
        for (const [i, v] of n.inputs.entries()) if (v === value) n.setInput(i, held.as('nchw', 'single'))
      sweepNode(value.producer!)
    }
  }

  #float(b: Builder, step: Step): Held | null {
    const conv = floatConvolution(step, this.#byQuantiser)
    if (!conv) return null
    const window = windowOf(conv, this.#typed)
    const pairing = window ? this.#pairing(step) : 'single'
    // one copy of the convolution's output is enough for all of its quantisers
    const readers = [...step.source.uses].map((n) => this.#byQuantiser.get(n)!)
    const place = readers.some((s) => this.#summed.has(s.value)) ? 'flat' : 'nchw'
    if (pairing === 'single' && place === 'nchw') return null
    const x = this.#once(`${step.source.name} ${place} ${pairing}`, () => {
      const y = pairing === 'single' ? step.source : this.#pairedFloats(b, conv, window!, step)
      return place === 'flat' ? toFlat(y, pairedDims(step.dims, pairing)) : y
    })
    return this.#quantised(b, step, x, { pairing, place, limit: 'max' })
  }

  #pairedFloats(b: Builder, conv: Node, window: Window, step: Step): Value {
    const x = conv.input(0)
    return this.#convolution(b, x, this.#partsOf(conv, window), step, 'single', dimsOf(x, this.#typed)!.height)
  }

  #once(key: string, make: () => Value): Value {
    const made = this.#made.get(key) ?? make()
    this.#made.set(key, made)
    return made
  }

  #sum(b: Builder, step: Step): Held {
    const flat = step.operands.some((d) => this.#held.get(d.input(0))!.place === 'flat')
    const form = { pairing: this.#pairing(step), place: flat ? ('flat' as const) : ('nchw' as const) }
    const operands = step.operands.map((d) => this.#read(b, d, form.place, form.pairing))
    return this.#quantised(b, step, b.op('Add', operands, {}, SHORT), { ...form, limit: 'max' })
  }

  #requantised(b: Builder, step: Step): Held {
    const [d] = step.operands as [Node]
    const { place } = this.#held.get(d.input(0))!
    const form = { pairing: this.#pairing(step), place }
    const zero = b.op('DequantizeLinear', [b.scalar(0, 'uint8'), b.scalar(1), b.scalar(0, 'uint8')], {}, SHORT)
    const sum = b.op('Add', [this.#read(b, d, form.place, form.pairing), zero], {}, EXTRA)
    const from = this.#steps.get(d.input(0))!
    const nonNegative = from.floor >= from.zero && step.floor <= step.zero
    return this.#quantised(b, step, sum, { ...form, limit: nonNegative ? 'none' : 'max' })
  }

  #shortcut(b: Builder, step: Step): Held {
    const [d] = step.operands as [Node]
    const { channels } = this.#steps.get(d.input(0))!.dims
    const dims = [step.dims.channels, channels, 1, 1]
    const ones = new Float64Array(step.dims.channels * channels)
    for (let c = 0; c < channels; c++) ones[(step.taken!.before + c) * channels + c] = 1
    const weights = b.initializer(SHORT.name, Tensor.from('int8', dims, ones))
    const window = shortcutWindow(step)
    const parts = { window, dims, weights, scale: Tensor.scalar(1), bias: null, extra: true }
    return this.#between(b, step, parts)
  }

  #conv(b: Builder, step: Step): Held | null {
    const window = windowOf(step.reader!, this.#typed)
    const paired = [step.value, step.operands[0]!.input(0)].some((v) => this.#plan.has(v))
    return window && paired ? this.#between(b, step, this.#partsOf(step.reader!, window)) : null
  }

  /** A convolution of one quantised value. */
  #between(b: Builder, step: Step, parts: Parts): Held {
    const [d] = step.operands as [Node]
    const to = this.#pairing(step)
    const there = this.#plan.get(d.input(0)) ?? 'single'
    const asPairs = to === 'single' ? readsPairs(step, this.#typed) : keepsRows(step, this.#typed)
    const from = asPairs ? there : 'single'
    const y = this.#convolution(
      b,
      this.#read(b, d, 'nchw', from),
      parts,
      step,
      from,
      this.#steps.get(d.input(0))!.dims.height,
    )
    return this.#quantised(b, step, y, { pairing: to, place: 'nchw', limit: to === 'odd' ? 'mask' : 'max' })
  }

  #convolution(b: Builder, x: Value, parts: Parts, step: Step, from: Pairing, height: number): Value {
    const to = this.#pairing(step)
    const plain = from === 'single' && to === 'single'
    const paired = plain ? null : pairWindow(parts.window, from, to, [height, step.dims.height])
    const { kernel, strides, begin, end } = paired?.window ?? parts.window
    const times = paired?.begins.length ?? 1
    let weights = paired ? pairKernel(b, parts.weights, parts.dims, paired) : parts.weights
    if (parts.scale) {
      const scale = b.initializer(SHORT.name, repeated(parts.scale, times))
      weights = b.op('DequantizeLinear', [weights, scale], parts.scale.size > 1 ? { axis: 0 } : {}, SHORT)
    }
    const bias = parts.bias && repeatedBias(b, parts.bias, times)
    const attributes = { kernel_shape: [...kernel], strides: [...strides], pads: [...begin, ...end] }
    return b.op('Conv', bias ? [x, weights, bias] : [x, weights], attributes, parts.extra ? EXTRA : SHORT)
  }

  #partsOf(conv: Node, window: Window): Parts {
    const integers = dequantizeBehind(conv.input(1))
    const dims = this.#typed.find(conv.input(1).name)!.type!.dims as readonly number[]
    const scale = integers?.input(1).constant ?? null
    return {
      window,
      dims,
      weights: integers?.input(0) ?? conv.input(1),
      scale,
      bias: conv.inputs[2] ?? null,
      extra: false,
    }
  }

  /** The operand as floats. */
  #read(b: Builder, d: Node, place: Place, pairing: Pairing): Value {
    const held = this.#held.get(d.input(0))!
    const zero = d.input(2).constant!.item() - held.shift
    return b.op('DequantizeLinear', [held.as(place, pairing), scalarOf(b, d), b.scalar(zero, 'uint8')], {}, SHORT)
  }

  #quantised(b: Builder, step: Step, x: Value, how: { pairing: Pairing; place: Place; limit: Limit }): Held {
    // a mask limits from above: levels are moved so that the type limits from below
    const shift = how.limit === 'mask' ? step.floor : 0
    const zero = b.scalar(step.zero - shift, 'uint8')
    let q = b.op('QuantizeLinear', [x, scalarOf(b, step.quantize), zero], {}, SHORT)
    if (how.limit === 'mask') {
      const outside = step.zero - shift
      q = b.op('Min', [q, this.#mask(b.graph, step, 255 - shift, outside)], {}, SHORT)
      if (outside > 0) q = b.op('Max', [q, this.#mask(b.graph, step, 0, outside)], {}, SHORT)
    } else if (how.limit === 'max' && step.floor > 0) q = b.op('Max', [q, b.scalar(step.floor, 'uint8')], {}, SHORT)
    return new Held(q, { dims: step.dims, pairing: how.pairing, place: how.place, shift })
  }

  /** Limits of an `odd` value's levels, inside the image and outside. Small in the file, folded at load. */
  #mask(graph: Graph, step: Step, inside: number, outside: number): Value {
    const { channels, height, width } = pairedDims(step.dims, 'odd')
    return this.#once([channels, height, width, inside, outside].join(), () => {
      const half = channels / 2
      const levels = new Uint8Array(channels * height).fill(inside)
      for (let c = 0; c < half; c++) {
        levels[c * height] = outside
        levels[(half + c + 1) * height - 1] = outside
      }
      const b = graph.prepend()
      const rows = b.initializer(SHORT.name, Tensor.of('uint8', [1, channels, height, 1], levels))
      return b.op('Expand', [rows, b.ints([1, channels, height, width])], {}, SHORT)
    })
  }

  #pairing(step: Step): Pairing {
    return this.#plan.get(step.value) ?? 'single'
  }
}

/** How levels are kept in their range: by the type alone, by a Max, or by the mask of an `odd` value. */
type Limit = 'none' | 'max' | 'mask'

/** The scale of a quantiser or dequantiser without dims, as onnxruntime's QLinearAdd requires it. */
function scalarOf(b: Builder, node: Node): Value {
  const step = node.input(1)
  return step.constant!.dims.length === 0 ? step : b.scalar(step.constant!.item())
}

/** Per-channel numbers for channels that occur `times` times. */
function repeated(tensor: Tensor, times: number): Tensor {
  if (tensor.size === 1 || times === 1) return tensor
  const values = Array.from(tensor.toNumbers())
  return Tensor.from(tensor.type, [values.length * times], Array.from({ length: times }, () => values).flat())
}

function repeatedBias(b: Builder, bias: Value, times: number): Value {
  if (times === 1) return bias
  const again = (v: Value): Value => b.initializer(SHORT.name, repeated(v.constant!, times))
  if (bias.constant) return again(bias)
  const [integers, scale] = [again(bias.producer!.input(0)), bias.producer!.input(1)]
  const axis = scale.constant!.size > 1 ? { axis: 0 } : {}
  return b.op('DequantizeLinear', [integers, again(scale)], axis, SHORT)
}
