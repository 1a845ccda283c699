/**
 * float16 for onnxruntime's CPU provider, which has hardly any kernels for it: it computes in float32 instead and drops
 * the Casts in between, so that nothing is rounded and nothing overflows. Here such nodes compute in float32 openly, and
 * each result goes to float16 and back: the result of a device that adds products up in float32. A training step in mixed
 * precision behaves on the CPU as it would there, only slower.
 */
import type { Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { elementTypes } from '../graph/types.ts'

const HALF = elementTypes.float16.code
const SINGLE = elementTypes.float32.code

/** Whether anything is cast to float16. */
export function holdsHalf({ graph }: Model): boolean {
  for (const n of graph.nodes()) if (isCastToHalf(n)) return true
  return false
}

const isCastToHalf = (n: Node): boolean => n.is('Cast') && n.int('to', 0) === HALF

/** Rewrites a typed graph in place, in which values become float16 by a Cast: no input, output or constant is. */
export function roundHalf({ graph }: Model): void {
  /** Of each float16 value: the same numbers as float32. */
  const single = new Map<Value, Value>()
  for (const n of [...graph.nodes()]) {
    n.inputs.forEach((v, i) => {
      const same = v && single.get(v)
      if (same) n.setInput(i, same)
    })
    if (isCastToHalf(n)) {
      const truth = n.input(0).type?.elem === 'bool'
      if (truth) n.setAttribute('to', SINGLE)
      single.set(n.output, truth ? n.output : widened(n.output))
    } else
      for (const v of n.outputs) {
        if (v?.type?.elem !== 'float16') continue
        v.setType({ elem: 'float32', dims: v.type.dims })
        single.set(v, widened(narrowed(v, n)))
      }
  }
}

const narrowed = (v: Value, by: Node): Value => v.graph.after(by).op('Cast', [v], { to: HALF })

const widened = (v: Value): Value =>
  v.graph.after(v.producer!).op('Cast', [v], { to: SINGLE }, { type: v.type && { ...v.type, elem: 'float32' } })
