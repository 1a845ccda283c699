/**
 * The independent oracle: what each operator computes, written in TensorFlow.js (test/ops/oracle/*.ts), whose own
 * autodiff then computes its gradient. Entries follow the standard's text, not our rules; NCHW comes from plain gathers
 * and matrix products. Every value is float32 or int32 here.
 */
import type { Tensor as TfTensor } from '@tensorflow/tfjs-core'
import type { Graph, Node, Value } from '../../src/graph/graph.ts'
import type { Tensor } from '../../src/graph/tensor.ts'
import { elementwiseOracle } from './oracle/elementwise.ts'
import { indexingOracle } from './oracle/indexing.ts'
import { layerOracle } from './oracle/layers.ts'
import { reductionOracle } from './oracle/reductions.ts'
import { shapeOracle } from './oracle/shapes.ts'
import { transformOracle } from './oracle/transforms.ts'
import { tf } from './tfjs.ts'

/** One function an op: inputs (undefined = left out) to outputs. */
export type OracleOp = (x: readonly TfTensor[], node: Node) => TfTensor | readonly TfTensor[]

export const oracle: Readonly<Record<string, OracleOp>> = {
  ...elementwiseOracle,
  ...reductionOracle,
  ...shapeOracle,
  ...indexingOracle,
  ...layerOracle,
  ...transformOracle,
}

/** Differentiable ops without an entry, and why. */
export const withoutOracle: Readonly<Record<string, string>> = {}

export function toTf(t: Tensor): TfTensor {
  const float = t.type.startsWith('float') || t.type === 'bfloat16'
  const type = float ? 'float32' : t.type === 'bool' ? 'bool' : 'int32'
  return tf.tensor(Array.from(t.toNumbers()), [...t.dims], type)
}

function evaluate(graph: Graph, given: ReadonlyMap<Value, TfTensor>): TfTensor[] {
  const values = new Map(given)
  for (const v of graph.initializers()) if (v.constant) values.set(v, toTf(v.constant))
  for (const n of graph.nodes()) {
    const op = oracle[n.op]
    if (!op) throw new Error(`no oracle for ${n.op}`)
    const out = op(n.inputs.map((v) => (v ? values.get(v)! : undefined)) as readonly TfTensor[], n)
    const list = Array.isArray(out) ? (out as readonly TfTensor[]) : [out as TfTensor]
    n.outputs.forEach((v, i) => {
      if (v && list[i]) values.set(v, list[i])
    })
  }
  return graph.outputs.map((v) => values.get(v)!)
}

export interface OracleResult {
  readonly outputs: readonly ArrayLike<number>[]
  /** One per variable. */
  readonly gradients: readonly ArrayLike<number>[]
}

/** Outputs of the graph, and the gradients of sum over its outputs i of <y_i, r_i> with respect to `variables`. */
export function runOracle(
  graph: Graph,
  feeds: Readonly<Record<string, Tensor>>,
  variables: readonly Value[],
  r: readonly (Tensor | null)[],
): OracleResult {
  return tf.tidy(() => {
    const fed = new Map(graph.inputs.map((v) => [v, toTf(feeds[v.name]!)]))
    const outputs = evaluate(graph, fed).map((t) => t.dataSync())
    const loss = (...xs: TfTensor[]): TfTensor => {
      const given = new Map(fed)
      variables.forEach((v, i) => {
        given.set(v, xs[i]!)
      })
      const terms = evaluate(graph, given).flatMap((y, i) => {
        const weights = r[i]
        return weights ? [tf.sum(tf.mul(y, toTf(weights)))] : []
      })
      return tf.addN(terms)
    }
    const gradients = tf
      .grads(loss)(variables.map((v) => fed.get(v)!))
      .map((g) => g.dataSync())
    return { outputs, gradients }
  })
}
