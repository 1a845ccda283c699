/**
 * h-swish as one operator where a model has it in parts: x clip(x + 3, 0, 6) / 6 (Howard et al. 2019), as exporters write it,
 * is four operators on large arrays and seven in the gradient; HardSwish is one, with a gradient of its own.
 *
 * Applies where nothing else reads the inner values. The last bit may differ, as 1/6 is multiplied elsewhere. Only the step is
 * rewritten: its weights are the model's.
 */
import type { Graph, Node } from '../../graph/graph.ts'
import { composed, type Ramp } from '../../ops/facts.ts'
import { findOp } from '../../ops/index.ts'
import { gatesOf } from '../../quant/gates.ts'

const HARD_SWISH: Ramp = { slope: 1 / 6, offset: 0.5, least: 0, most: 1 }

export function joinGates(graph: Graph): void {
  for (const x of [...graph.values()])
    for (const { ramp, nodes, product, ownInput } of gatesOf(x)) {
      if (!ownInput || nodes.length === 0) continue
      const factor = factorBehind(product)
      const { output } = factor?.node ?? product
      if (output.isOutput || !isNear(factor ? composed(ramp, factor.ramp) : ramp, HARD_SWISH)) continue
      graph.replaceUses(output, graph.before(output.producer!).op('HardSwish', [x], {}, { type: output.type }))
    }
}

/** A factor that is all that reads the product. */
function factorBehind({ output }: Node): { readonly node: Node; readonly ramp: Ramp } | null {
  const [node, ...others] = output.uses
  if (!node || others.length > 0 || output.isOutput) return null
  const ramp = findOp(node)?.ramp?.(node)
  if (!ramp || node.inputs[ramp.input] !== output || ramp.offset !== 0) return null
  return Number.isFinite(ramp.least) || Number.isFinite(ramp.most) ? null : { node, ramp }
}

/** Up to float32's rounding of their constants. */
const isNear = (a: Ramp, b: Ramp): boolean =>
  (['slope', 'offset', 'least', 'most'] as const).every((k) => Math.abs(a[k] - b[k]) <= 1e-6)
