/**
 * Mixed precision: the part of a training step that float16 is enough for, rewritten to compute in it. Weights, running
 * statistics, the optimiser, losses, sums over many elements (normalisations, weight gradients) and rounding to quantiser
 * levels stay in float32. Layers become narrow and, where they are between layers, operators that move numbers or add few
 * of them (OpDef.half): a Cast is put where a value crosses.
 *
 * Small gradients would become zero in float16. So the step multiplies the loss by `loss_scale`, an input, divides the
 * gradient by it, and the host looks for the largest scale that overflows nothing (loss-scale.ts).
 *
 * Done to the finished step: gradient rules know float32 only. Micikevicius et al., Mixed Precision Training, 2018.
 */
import type { Node, Value } from '../../graph/graph.ts'
import { isKeptWide } from '../../graph/hints.ts'
import type { Model } from '../../graph/model.ts'
import type { Tensor } from '../../graph/tensor.ts'
import { elementCount, elementTypes, isStatic } from '../../graph/types.ts'
import { findOp } from '../../ops/index.ts'
import { HALF, isPlainCast, isSingle, narrowNodes, nodesToNarrow } from '../../passes/half-nodes.ts'

/** Values below this many elements are not worth a Cast, except a layer's. */
const SMALL = 1024

/** Rewrites a typed step in place; returns how many nodes now compute in float16. */
export function narrowStep({ graph }: Model): number {
  for (const n of [...graph.nodes()]) plainStepFunction(n)
  const chosen = nodesToNarrow([...graph.nodes()].filter(mayBeNarrow), isLarge)
  narrowNodes(chosen)
  return chosen.size
}

const isLarge = (v: Value): boolean => {
  const dims = v.type?.dims ?? null
  return !v.constant && isStatic(dims) && elementCount(dims) >= SMALL
}

/**
 * The gradient of ReLU is a HardSigmoid of a slope that float16 does not hold (piecewise-activations.ts): a comparison
 * and a Cast, which do the same, may be narrow.
 */
function plainStepFunction(n: Node): void {
  if (!n.is('HardSigmoid') || n.float('alpha', 0.2) <= HALF.largest || !isLarge(n.output)) return
  const b = n.graph.before(n)
  const { type } = n.output
  const positive = b.op('Greater', [n.input(0), b.scalar(0)], {}, { type: type && { ...type, elem: 'bool' } })
  n.graph.replaceUses(n.output, b.op('Cast', [positive], { to: elementTypes.float32.code }, { type }))
  n.graph.remove(n)
}

function mayBeNarrow(n: Node): boolean {
  if (n.domain !== '' || isKeptWide(n) || n.outputs.some((v) => !v || v.isOutput || !v.type)) return false
  if (n.inputs.some((v) => v?.constant && isSingle(v) && !fits(v.constant))) return false
  for (const v of n.outputs) for (const user of v!.uses) if (user.subgraphs.length > 0) return false
  if (isPlainCast(n)) return n.input(0).type?.elem === 'bool' && isSingle(n.output) && isLarge(n.output)
  const def = findOp(n)
  if (!def?.half || !n.inputs.some((v) => v && isSingle(v))) return false
  if (def.weights) return true
  // the vector of all weights has wide readers, too
  return n.outputs.some((v) => isLarge(v!)) && !n.inputs.some((v) => v?.isInput)
}

/** Whether float16 holds the numbers: none overflows, and a single one does not become zero. */
function fits(t: Tensor): boolean {
  const values = t.view('float32')
  if (values.length === 1 && values[0] !== 0 && Math.abs(values[0]!) < HALF.least) return false
  return values.every((x) => Math.abs(x) <= HALF.largest)
}
