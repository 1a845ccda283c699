/**
 * Scales and zero points of quantised inputs by the error of what the layers behind make of them, in place of the tensor's own
 * (src/quant/range-search.ts), measured in the float network, quantisers taken out. A second run finds nothing to do. Run it
 * behind `quantize` and before `round-weights`, which makes weights fit these inputs.
 *
 * Does not apply, and says so, to scales that are computed, frozen, shared with another quantiser or one per channel, and to values
 * that no layer reads, or something else too, whose error is not measured.
 */
import { type OptionsOf, optionTable } from '../base/options.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import { ACTIVATION_QUANT, asInitializer, type WeightLayer, weightLayers } from '../layers/layers.ts'
import { type QuantPair, quantPairOf } from '../layers/quant-pair.ts'
import { definePass, type PassContext } from '../pass-manager/define-pass.ts'
import type { ActivationRange } from '../quant/activation-range.ts'
import { type FloatReference, floatReference } from '../quant/bypass-quantisers.ts'
import { LayerWalk } from '../quant/layer-walk.ts'
import { nonNegativeTest } from '../quant/non-negative.ts'
import { guardQuantisers } from '../quant/quant-guard.ts'
import { candidatesOf, type RangeOf, rangeProbe, searchRange } from '../quant/range-search.ts'
import { thinPositions } from '../quant/thin-positions.ts'
import { inlineFunctions } from './inline-functions.ts'

const options = optionTable(finiteOptions)

/** An error takes as many positions as the moments of so many columns. */
const COLUMNS = 128

function whyNot({ scale, zeroPoint, axis, dequantize }: QuantPair, readers: RangeOf['readers']): string | null {
  const given = dequantize.output
  if (readers.length === 0) return 'no layer reads it'
  if (readers.length < given.uses.size || given.isOutput) return 'something else than layers reads it too'
  if (axis !== null || scale.constant?.size !== 1) return 'its scales are computed or differ between channels'
  if (zeroPoint && !zeroPoint.constant) return 'its zero point is computed'
  if (scale.uses.size > 2 || (zeroPoint && zeroPoint.uses.size > 2)) return 'its scale is shared with another quantiser'
  // the one scale of what a Concat joins, or one that a gate asks for, too
  if (marks.frozen.is(scale)) return 'its scale is frozen'
  return marks.rangeSearched.is(dequantize) ? 'its range is searched already' : null
}

async function run(model: Model, { allowNonfinite }: OptionsOf<typeof options>, ctx: PassContext): Promise<boolean> {
  const inlined = inlineFunctions(model)
  const float = floatReference(model)
  const layers = weightLayers(model.graph)
  const isNonNegative = nonNegativeTest()
  const found: { of: RangeOf; candidates: readonly ActivationRange[] }[] = []
  for (const n of model.graph.nodes()) {
    const pair = quantPairOf(n)
    if (!pair?.quantize || marks.role.get(n) !== ACTIVATION_QUANT) continue
    const readers = readersOf(pair, layers, float)
    const reason = whyNot(pair, readers)
    if (reason) ctx.decline(n.id, reason)
    else {
      const source = float.values.get(pair.source)!
      found.push({ of: { pair, source, readers }, candidates: candidatesOf(pair, isNonNegative(pair.source)) })
    }
  }
  if (found.length === 0) return inlined
  const windows = found.flatMap(({ of }) => of.readers.filter((r) => r.layer.slot.channels === 'window'))
  const every = await thinPositions(model, new Map(windows.map((r) => [r.layer, COLUMNS])), ctx.calibration!)
  const order = new Map([...float.model.graph.nodes()].map((n, i) => [n, i]))
  found.sort((a, b) => order.get(a.of.readers[0]!.node)! - order.get(b.of.readers[0]!.node)!)
  const ranges = found.map(({ of, candidates }) => {
    const readers = of.readers.map((r) => ({ ...r, every: every.get(r.layer) }))
    return { of: { ...of, readers }, candidates }
  })
  const probes = ranges.map(({ of }) => rangeProbe(of))
  const walk = new LayerWalk(float.model, ctx.calibration!, probes, { reference: null, allowNonfinite })
  let changed = 0
  for (const [i, { of, candidates }] of ranges.entries()) {
    ctx.onProgress?.(i, ranges.length)
    const { range, before, after } = await searchRange(walk, of, candidates)
    marks.rangeSearched.put(of.pair.dequantize)
    if (!(after < before)) continue
    setRange(of.pair, range)
    changed++
  }
  ctx.log(`${changed} of ${found.length} ranges changed`)
  if (changed > 0) guardQuantisers(model.graph)
  return true
}

/** Layers of the float network that multiply what this quantiser rounds, in graph order. */
function readersOf(pair: QuantPair, layers: readonly WeightLayer[], { values }: FloatReference): RangeOf['readers'] {
  return layers.flatMap((layer) => {
    const { data } = layer.slot
    if (data === undefined || layer.outputAxis === null) return []
    return layer.users.flatMap((n) =>
      n.inputs[data] === pair.dequantize.output ? [{ layer, node: values.get(n.output)!.producer!, data }] : [],
    )
  })
}

function setRange({ scale, zeroPoint }: QuantPair, range: ActivationRange): void {
  const set = (v: typeof scale, x: number): void => {
    const { type, dims } = v.constant!
    asInitializer(v).setConstant(Tensor.from(type, dims, [x]))
  }
  set(scale, range.scale)
  if (zeroPoint) set(zeroPoint, range.zeroPoint)
}

export const searchRanges = definePass({
  name: 'search-ranges',
  summary: 'Choose scales of quantised inputs by the error of the layers behind, not of the inputs',
  options,
  preserves: 'interface',
  bakes: true,
  data: 'required',
  run,
})
