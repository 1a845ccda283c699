/**
 * Quantises what stands between layers, so that an int8 export runs the whole network in integers: what layers, sums, products, pools
 * and Concats give (quant/integer-plan.ts says where). A convolution whose output stays float remains a float kernel.
 *
 * One scale per value, as layer inputs have; from calibration. The x of an h-sigmoid or h-swish gets one of which 3 is a whole
 * multiple, and values that are joined one in common (quant/gates.ts); those two are not trained (mnc.frozen). A value that has
 * a quantiser of this width already shares it; layer inputs of another width read the rounded value. Before and after
 * insert-fake-quant it makes the same quantisers (their nodes say mnc.output=true, by which that pass knows them).
 * Does not apply to graphs where only layers read what layers give.
 */

import { usageError } from '../base/errors.ts'
import { optionTable } from '../base/options.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Node, Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import { Tensor } from '../graph/tensor.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import { ACTIVATION_QUANT, rewire } from '../layers/layers.ts'
import { separateWidths } from '../layers/mixed-widths.ts'
import { QUANT_GUARD, type QuantPair } from '../layers/quant-pair.ts'
import { definePass } from '../pass-manager/define-pass.ts'
import { type ActivationRange, activationRange, commonRange } from '../quant/activation-range.ts'
import { collectHistograms } from '../quant/calibrate.ts'
import { gateRange } from '../quant/gates.ts'
import { type IntegerPlan, planIntegers } from '../quant/integer-plan.ts'
import { nonNegativeTest } from '../quant/non-negative.ts'
import { guardQuantisers } from '../quant/quant-guard.ts'
import { existingQuantizer, insertQuantizer } from '../quant/quant-nodes.ts'
import { inferTypes } from '../runtime/isolated/infer-types.ts'
import { foldConstants } from './fold-constants.ts'
import { insertFakeQuant } from './insert-fake-quant.ts'

const { calibration, signedInputs, percentile } = insertFakeQuant.options
const options = optionTable({
  bits: { type: 'integer', minimum: 2, maximum: 8, default: 8, description: 'Width of the values, 2 to 8' },
  calibration,
  signedInputs,
  percentile,
  ...finiteOptions,
})

/** The steps of a plan's values: what each would have, gates' and groups' with what they ask for. */
class Ranges {
  readonly #ranges = new Map<Value, ActivationRange>()
  /** Not to be trained. */
  readonly tied = new Set<Value>()

  set(v: Value, range: ActivationRange): void {
    this.#ranges.set(v, range)
  }

  get(v: Value): ActivationRange {
    return this.#ranges.get(v)!
  }

  tie(values: readonly Value[], range: ActivationRange): void {
    for (const v of values) {
      this.set(v, range)
      this.tied.add(v)
    }
  }
}

export const quantizeOutputs = definePass({
  name: 'quantize-outputs',
  formerly: ['quantize-additions'],
  summary: 'Quantise what layers, sums, products and pools give, so that an int8 export runs entirely in integers',
  options,
  preserves: 'interface',
  bakes: true,
  data: 'required',
  async run(model, o, ctx) {
    const typed = cloneModel(model)
    // shapes are often computed from constants
    await foldConstants.run(typed, { maxBytes: 2 ** 20 }, { ...ctx, decline: () => {} })
    await inferTypes(typed)
    const plan = planIntegers(model.graph, typed.graph)
    if (plan.values.size === 0) {
      ctx.decline('the model', 'only layers read what layers give')
      return false
    }
    if (model.opset < 13)
      throw usageError('quantised outputs need opset 13 or later', 'run upgrade-opset, or quantize, first')
    const histograms = await collectHistograms(model, [...plan.values.keys()], ctx.calibration!, o)
    const isNonNegative = nonNegativeTest()
    // decided before the graph changes: a rounded value no longer tells whether it can be negative
    const ranges = rangesOf(plan, o.bits, (v, gates) => {
      const h = histograms.get(v)!
      const alone = [...v.uses].every((n) => gates.some((g) => g.nodes[0] === n || g.product === n))
      const own = gates.length > 0 ? gateRange(h, gates, alone, o) : null
      return own ?? activationRange(h, { ...o, nonNegative: isNonNegative(v) })
    })
    let changed = false
    for (const [value, planned] of plan.values) {
      const range = ranges.get(value)
      const pair = existingQuantizer(value, o.bits)
      if (pair) {
        const others = withoutGuards(
          value,
          [...planned].filter((n) => !pair.nodes.includes(n)),
        )
        rewire(others, value, pair.dequantize.output)
        const moved = ranges.tied.has(value) && setRange(pair, range)
        changed ||= others.size > 0 || moved
        continue
      }
      const readers = withoutGuards(value, planned)
      insertQuantizer(
        value,
        {
          ...{ name: `${value.name}.out`, bits: o.bits, signed: false, scales: Float32Array.of(range.scale) },
          ...{ zeroPoint: range.zeroPoint, axis: null, elem: 'float32', role: ACTIVATION_QUANT, output: true },
          frozen: ranges.tied.has(value) || [...readers].every(marks.frozen.is),
        },
        readers,
      )
      changed = true
    }
    separateWidths(model.graph)
    guardQuantisers(model.graph)
    return changed
  },
})

/** The readers, quantisers in place of the guards before them: behind this quantiser there is nothing to guard them against. */
function withoutGuards(value: Value, readers: Iterable<Node>): Set<Node> {
  return new Set(
    [...readers].flatMap((n) => {
      if (marks.role.get(n) !== QUANT_GUARD) return [n]
      const behind = [...n.output.uses]
      n.graph.replaceUses(n.output, value)
      n.graph.remove(n)
      return behind
    }),
  )
}

function rangesOf(
  plan: IntegerPlan,
  bits: number,
  rangeOf: (v: Value, gates: NonNullable<ReturnType<IntegerPlan['gates']['get']>>) => ActivationRange,
): Ranges {
  const ranges = new Ranges()
  for (const v of plan.values.keys()) {
    const gates = plan.gates.get(v) ?? []
    const range = rangeOf(v, gates)
    if (gates.length > 0) ranges.tie([v], range)
    else ranges.set(v, range)
  }
  for (const group of plan.groups)
    ranges.tie(
      group,
      commonRange(
        group.map((v) => ranges.get(v)),
        2 ** bits - 1,
      ),
    )
  return ranges
}

/** Gives a quantiser that is there already the step that its value has in common with others. */
function setRange({ scale, zeroPoint, quantize, dequantize }: QuantPair, range: ActivationRange): boolean {
  const { graph } = dequantize
  const zero = zeroPoint?.constant
  if (!zero || (scale.constant?.item() === range.scale && zero.item() === range.zeroPoint)) return false
  const s = graph.addInitializer(graph.freshName(scale.name), Tensor.scalar(range.scale))
  for (const [k, v] of scale.metadata) s.metadata.set(k, v)
  marks.frozen.put(s)
  const z = graph.addInitializer(graph.freshName(zeroPoint.name), Tensor.from(zero.type, zero.dims, [range.zeroPoint]))
  for (const half of [quantize!, dequantize]) {
    half.setInput(1, s)
    half.setInput(2, z)
  }
  for (const old of [scale, zeroPoint]) if (!old.isUsed && old.constant) graph.removeInitializer(old)
  return true
}
