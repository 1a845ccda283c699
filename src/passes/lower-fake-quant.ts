/**
 * QuantizeLinear -> DequantizeLinear as float arithmetic that can be trained through. With s the scale and [lo, hi] the
 * integers less the zero point:
 *
 *   y = Round(Clip(x / s, lo, hi)) * s          Div, Clip, Round, Mul; bit for bit what the pair computes
 *
 * Gradient: Div, Round and Mul are marked `mnc.gradient=straight-through`, so dL/dx is dL/dy where lo <= x/s <= hi and 0
 * outside (the Clip's own rule), and no backward kernel multiplies by s only to divide again. With --learn-scales only
 * Round is marked, and dL/ds = sum(dL/dy * (q - x/s inside, q outside)) follows: LSQ (Esser et al., 2020).
 *
 * Four kernels were as fast as Clip -> uint8 Quantize -> Dequantize (33 ms each for 64x48x32x32 on 2 cores, onnxruntime
 * 1.30; rounding by adding 1.5*2^23 took 49, the 4-bit pair 56), and every executor has them.
 * Does not apply to integer constants (a DequantizeLinear alone), whose values are not trained, and to zero points that
 * differ between channels.
 */

import { type OptionsOf, optionTable } from '../base/options.ts'
import { marks, marksOf } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { type Dim, isStatic } from '../graph/types.ts'
import { QUANT_GUARD, type QuantPair, quantPairOf } from '../layers/quant-pair.ts'
import { type DimsLookup, dimsLookup } from '../layers/ranks.ts'
import { removeUnused } from '../layers/remove-unused.ts'
import { broadcastScales } from '../layers/scale-layout.ts'
import { constantOf, isDequantize } from '../ops/facts.ts'
import { definePass, type PassContext } from '../pass-manager/define-pass.ts'

const options = optionTable({
  learnScales: { type: 'boolean', default: false, description: 'Keep the gradient of the scales (LSQ)' },
})

async function run(model: Model, o: OptionsOf<typeof options>, ctx: PassContext): Promise<boolean> {
  let dimsOf: DimsLookup | null = null
  let changed = false
  for (const node of model.graph.nodes()) {
    if (!isDequantize(node)) continue
    const pair = quantPairOf(node)
    const zero = pair && uniformZeroPoint(pair)
    if (!pair?.quantize || zero === null) {
      ctx.decline(
        node.id,
        pair ? whyNot(pair) : 'it is not a QuantizeLinear -> DequantizeLinear pair with one shared scale',
      )
      continue
    }
    let dims: readonly Dim[] | null = null
    if (pair.axis !== null) {
      dimsOf ??= await dimsLookup(model)
      dims = dimsOf(pair.source)
      if (dims === null || (pair.block > 0 && !isStatic(dims))) {
        ctx.decline(node.id, `the ${pair.block > 0 ? 'shape' : 'rank'} of '${pair.source.name}' is unknown`)
        continue
      }
    }
    lower(pair, zero!, dims, o.learnScales)
    changed = true
  }
  return changed
}

const whyNot = (pair: QuantPair): string =>
  pair.quantize ? 'its zero points differ between channels, or are computed' : 'it reads integers that are constant'

function uniformZeroPoint({ zeroPoint }: QuantPair): number | null {
  if (!zeroPoint) return 0
  const values = Array.from(constantOf(zeroPoint)?.toNumbers() ?? [])
  return values.length > 0 && values.every((z) => z === values[0]) ? values[0]! : null
}

function lower(pair: QuantPair, zero: number, dims: readonly Dim[] | null, learnScales: boolean): void {
  const { dequantize, source, scale, lo, hi } = pair
  const { graph } = dequantize
  const b = graph.before(dequantize)
  const elem = scale.constant?.type ?? scale.type?.elem ?? 'float32'
  const old = dequantize.output
  const type = old.type ?? source.type
  const own = marksOf(dequantize)
  const straight = { metadata: { ...own, ...marks.gradient.entry('straight-through') }, type }
  const plain = { metadata: own, type }
  const step = learnScales ? plain : straight
  const known = (dims ?? []).map((d) => (typeof d === 'number' ? d : -1))
  const s = broadcastScales(b, scale, known, pair)
  const name = old.name
  const scaled = b.op('Div', [source, s], {}, { ...step, name: `${name}_scaled` })
  const limits = [b.scalar(lo - zero, elem), b.scalar(hi - zero, elem)]
  const clipped = b.op('Clip', [scaled, ...limits], {}, { ...plain, name: `${name}_clipped` })
  const rounded = b.op('Round', [clipped], {}, { ...straight, name: `${name}_rounded` })
  const y = b.op('Mul', [rounded, s], {}, { ...step, name: `${name}_lowered` })
  for (const n of [...old.uses]) {
    if (marks.role.get(n) !== QUANT_GUARD) continue
    graph.replaceUses(n.output, old)
    graph.remove(n)
  }
  const isOutput = old.isOutput
  graph.replaceUses(old, y)
  removeUnused(pair.nodes)
  if (!isOutput) graph.rename(y, name)
}

export const lowerFakeQuant = definePass({
  name: 'lower-fake-quant',
  summary: 'Rewrite QuantizeLinear -> DequantizeLinear as float arithmetic with a straight-through gradient',
  options,
  isInner: true,
  preserves: 'numerics',
  bakes: true,
  run,
})
