/**
 * Which values cannot be negative, from what the op definitions declare (`OpDef.nonNegative`): ReLU outputs and what pools, concatenates
 * or reshapes them. Such activations get unsigned integers, twice the resolution. Knows nothing of graph inputs.
 */
import type { Value } from '../graph/graph.ts'
import { quantPairOf } from '../layers/quant-pair.ts'
import { findOp } from '../ops/index.ts'

/** A memoised test for the values of one graph. */
export function nonNegativeTest(): (value: Value) => boolean {
  const known = new Map<Value, boolean>()
  const test = (v: Value): boolean => {
    const found = known.get(v)
    if (found !== undefined) return found
    const result = decide(v, test)
    known.set(v, result)
    return result
  }
  return test
}

function decide(v: Value, test: (v: Value) => boolean): boolean {
  if (v.constant) {
    const values = v.constant.type === 'string' ? [-1] : v.constant.toNumbers()
    for (let i = 0; i < values.length; i++) if (!(values[i]! >= 0)) return false
    return true
  }
  const node = v.producer
  if (!node || node.outputs[0] !== v) return false
  const pair = quantPairOf(node)
  if (pair) {
    const zero = pair.zeroPoint ? pair.zeroPoint.constant?.toNumbers() : [0]
    return test(pair.source) || (zero !== undefined && Array.from(zero).every((z) => pair.lo >= z))
  }
  const input = (i: number): boolean => {
    const x = node.inputs[i]
    return x ? test(x) : false
  }
  return findOp(node)?.nonNegative?.(node, input) ?? false
}
