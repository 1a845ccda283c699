/**
 * Activation quantisers as compilers and other readers want them: QuantizeLinear -> DequantizeLinear of 8-bit integers, nothing
 * between them.
 *
 *   unsigned    lo..hi as uint8 with zero point max(0, -lo)
 *   symmetric   int8 with zero point 0; where lo..hi is not within -128..127 the scale becomes s' = s max(-lo, hi) / 127
 *
 * A range that is narrower than its container (fewer bits, a ReLU in front) is a float Clip before the pair, which takes the place of
 * a ReLU or Clip that only such quantisers read. Clamping commutes with rounding, as both limits are multiples of the
 * scale; with s' half of the levels of an unsigned range are lost. Does not apply to ranges of more than 256 levels.
 */
import type { Node, Value } from '../../graph/graph.ts'
import { sweepNode } from '../../graph/sweep.ts'
import { Tensor } from '../../graph/tensor.ts'
import { isRectified } from '../../ops/facts.ts'
import { type Activation, sourceOf } from './activations.ts'

interface Form {
  readonly type: 'int8' | 'uint8'
  readonly zero: number
  readonly step: number
  /** Whether the container saturates below and above where the range ends. */
  readonly below: boolean
  readonly above: boolean
}

function formOf({ lo, hi, step }: Activation, symmetric: boolean): Form | null {
  if (hi - lo > 255 || lo > 0 || hi < 0) return null
  if (!symmetric) {
    const zero = -lo
    return { type: 'uint8', zero, step, below: true, above: hi === 255 - zero }
  }
  if (lo >= -128 && hi <= 127) return { type: 'int8', zero: 0, step, below: lo === -128, above: hi === 127 }
  return { type: 'int8', zero: 0, step: (step * Math.max(-lo, hi)) / 127, below: -lo >= hi, above: hi >= -lo }
}

/** Replaces the pairs; returns the activations whose scale changed. */
export function toPlain(activations: readonly Activation[], symmetric: boolean): Activation[] {
  const coarser: Activation[] = []
  const whole = new Map<Node, { readonly quantise: Node; readonly form: Form }>()
  for (const a of activations) {
    const { dequantize, quantize } = a.pair
    const { graph } = dequantize
    let made = whole.get(quantize!)
    if (!made) {
      const form = formOf(a, symmetric)
      if (!form) continue
      if (form.step !== a.step) coarser.push(a)
      const b = graph.before(quantize!)
      const { name } = quantize!.output
      // a ReLU stays where it is all that the range asks for: readers merge it into the layer
      const isClipped = !form.above || !(form.below || (a.lo === 0 && isRectified(a.pair.source)))
      const limit = (level: number): Value => b.scalar(Math.fround(level * a.step))
      const limits = isClipped ? [limit(a.lo), limit(a.hi)] : []
      const x = isClipped ? b.op('Clip', [sourceOf(a), ...limits], {}, { name: `${name}.c` }) : quantize!.input(0)
      const step = graph.addInitializer('step', Tensor.scalar(form.step))
      const zero = b.scalar(form.zero, form.type)
      const q = b.op('QuantizeLinear', [x, step, zero], {}, { name: `${name}.q` })
      made = { quantise: q.producer!, form }
      whole.set(quantize!, made)
    }
    const { quantise } = made
    const inputs = [quantise.output, quantise.input(1), quantise.input(2)]
    const y = graph.before(dequantize).op('DequantizeLinear', inputs, {}, { type: dequantize.output.type })
    const { name } = dequantize.output
    graph.replaceUses(dequantize.output, y)
    sweepNode(dequantize)
    if (y.name !== name && !graph.find(name)) graph.rename(y, name)
  }
  return coarser
}

/**
 * Removes the pairs: activations are not rounded. Those of fewer than 8 bits leave a Clip to their range, which the network
 * was trained with; 8 bits hold all but outliers.
 */
export function dropRounding(activations: readonly Activation[]): void {
  for (const a of activations) {
    const { dequantize, quantize } = a.pair
    const { graph } = dequantize
    const isNarrow = a.pair.hi - a.pair.lo < 255
    const limit = (level: number) => graph.before(dequantize).scalar(Math.fround(level * a.step))
    const x = isNarrow
      ? graph
          .before(dequantize)
          .op('Clip', [sourceOf(a), limit(a.lo), limit(a.hi)], {}, { type: dequantize.output.type })
      : quantize!.input(0)
    const { output } = dequantize
    const { name } = output
    graph.replaceUses(output, x)
    sweepNode(dequantize)
    if (isNarrow && x.name !== name && !graph.find(name)) graph.rename(x, name)
  }
}
