/** Operators that no engine provides: custom ones, which models from other tools may contain. */
import { type MncError, modelError } from '../base/errors.ts'
import type { Model } from '../graph/model.ts'

/** Domains whose operators come with onnxruntime. */
const ENGINE_DOMAINS = /^(ai\.onnx(\..+)?|com\.microsoft(\..+)?|com\.ms\..+|org\.pytorch\.aten)?$/

/** Why a model with an operator of a custom domain cannot run; null where there is none. */
export function foreignOperator(model: Model): MncError | null {
  const own = new Set(model.functions.map((f) => `${f.domain}::${f.name}`))
  for (const graph of [model.graph, ...model.functions.map((f) => f.graph)])
    for (const n of graph.allNodes()) {
      if (ENGINE_DOMAINS.test(n.domain) || own.has(`${n.domain}::${n.op}`)) continue
      const what = `operator '${n.op}' of domain '${n.domain}' is unknown to onnxruntime, and this command has to run the model`
      return modelError('foreign-operator', what, { node: n.id, next: 'replace it with standard operators' })
    }
  return null
}
