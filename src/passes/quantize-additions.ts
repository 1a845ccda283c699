/**
 * Quantises what residual connections add, and what comes out, so that an int8 export runs the whole network in integers
 * (QLinearAdd): a residual block whose sum stays float keeps the convolution before it a float kernel.
 *
 *   operands   of every Add of two computed values, where they are not quantised yet
 *   the sum    or the ReLU after it where that is its only reader, for all its readers; not where only layers read it,
 *              whose inputs insert-fake-quant rounds
 *
 * One scale per value, as layer inputs have; from calibration. A value that has a quantiser
 * of this width already shares it; layer inputs of another width read the rounded sum. Before and after
 * insert-fake-quant it makes the same quantisers (their nodes say mnc.addition=true, by which that pass knows them). Does not apply to broadcasting additions
 * (biases) and to graphs without an Add of two computed values of one shape.
 */

import { modelError, usageError } from '../base/errors.ts'
import { optionTable } from '../base/options.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Graph, Node, Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import { ACTIVATION_QUANT, rewire } from '../layers/layers.ts'
import { separateWidths } from '../layers/mixed-widths.ts'
import { QUANT_GUARD, quantPairOf } from '../layers/quant-pair.ts'
import { isAddition, isQuantize, isRectifier } from '../ops/facts.ts'
import { weightSlots } from '../ops/index.ts'
import { definePass } from '../pass-manager/define-pass.ts'
import { activationRange } from '../quant/activation-range.ts'
import { collectHistograms } from '../quant/calibrate.ts'
import { nonNegativeTest } from '../quant/non-negative.ts'
import { guardQuantisers } from '../quant/quant-guard.ts'
import { existingQuantizer, insertQuantizer } from '../quant/quant-nodes.ts'
import { inferTypes } from '../runtime/isolated/infer-types.ts'
import { foldConstants } from './fold-constants.ts'
import { insertFakeQuant } from './insert-fake-quant.ts'

const { calibration, signedInputs, percentile } = insertFakeQuant.options
const options = optionTable({
  bits: { type: 'integer', minimum: 2, maximum: 8, default: 8, description: 'Width of operands and sums, 2 to 8' },
  calibration,
  signedInputs,
  percentile,
  ...finiteOptions,
})

/** Values to quantise, each with the nodes that are to read the rounded value. */
function planAdditions(graph: Graph, typed: Graph): Map<Value, Set<Node>> {
  const plan = new Map<Value, Set<Node>>()
  const add = (v: Value, readers: Iterable<Node>): void => {
    if (v.producer && quantPairOf(v.producer)) return
    plan.set(v, new Set([...(plan.get(v) ?? []), ...readers]))
  }
  for (const node of graph.nodes()) {
    if (!addsAlike(node, typed)) continue
    for (const v of node.inputs) add(v!, [node])
    const result = sumOf(node)
    if (!result.isOutput && ![...result.uses].every((n) => readsRounded(n, result))) add(result, result.uses)
  }
  return plan
}

/** Whether the node rounds the value for a layer, or is a layer before whose input that will be done. */
function readsRounded(n: Node, v: Value): boolean {
  if (isQuantize(n) || marks.role.get(n) === QUANT_GUARD) return true
  return weightSlots(n).some((s) => s.data !== undefined && n.inputs[s.data] === v)
}

/** An addition of two values that nodes compute. */
const addsComputed = (node: Node): boolean => isAddition(node) && node.inputs.every((v) => v?.producer)

/** `typed`: the same graph with inferred types. */
function addsAlike(node: Node, typed: Graph): boolean {
  if (!addsComputed(node)) return false
  const [a, b] = [node.input(0), node.input(1)]
  const [x, y] = [typed.find(a.name)?.type, typed.find(b.name)?.type]
  return x?.elem === 'float32' && x.dims !== null && y?.dims?.join() === x.dims.join()
}

function sumOf(node: Node): Value {
  const [only, ...others] = node.output.uses
  return only && isRectifier(only) && others.length === 0 && !node.output.isOutput ? only.output : node.output
}

export const quantizeAdditions = definePass({
  name: 'quantize-additions',
  summary: 'Quantise the operands and sums of residual connections, so that an int8 export runs entirely in integers',
  options,
  preserves: 'interface',
  bakes: true,
  data: 'required',
  async run(model, o, ctx) {
    const typed = cloneModel(model)
    // shapes are often computed from constants
    await foldConstants.run(typed, { maxBytes: 2 ** 20 }, { ...ctx, decline: () => {} })
    await inferTypes(typed)
    const plan = planAdditions(model.graph, typed.graph)
    if (plan.size === 0) {
      const known = [...model.graph.nodes()].some(addsComputed)
      if (known) return false
      throw modelError('no-additions', 'the model has no addition of two computed values of the same shape')
    }
    if (model.opset < 13)
      throw usageError('quantised additions need opset 13 or later', 'run upgrade-opset, or quantize, first')
    let changed = false
    for (const [value, readers] of plan) {
      const pair = existingQuantizer(value, o.bits)
      if (!pair) continue
      plan.delete(value)
      const others = [...readers].filter((n) => !pair.nodes.includes(n))
      rewire(others, value, pair.dequantize.output)
      changed ||= others.length > 0
    }
    const histograms = await collectHistograms(model, [...plan.keys()], ctx.calibration!, o)
    const isNonNegative = nonNegativeTest()
    // decided before the graph changes: a rounded value no longer tells whether it can be negative
    const ranges = [...plan.keys()].map((value) =>
      activationRange(histograms.get(value)!, { ...o, nonNegative: isNonNegative(value) }),
    )
    for (const [i, [value, readers]] of [...plan].entries()) {
      const { scale, zeroPoint } = ranges[i]!
      const spec = { name: `${value.name}.sum`, bits: o.bits, signed: false, scales: Float32Array.of(scale), zeroPoint }
      const role = {
        axis: null,
        elem: 'float32',
        role: ACTIVATION_QUANT,
        addition: true,
        frozen: [...readers].every(marks.frozen.is),
      } as const
      insertQuantizer(value, { ...spec, ...role }, readers)
      changed = true
    }
    separateWidths(model.graph)
    guardQuantisers(model.graph)
    return changed
  },
})
