/** Builds one-node models from the samples that operator definitions declare. */
import { Rng } from '../../src/base/rng.ts'
import type { Node, Value } from '../../src/graph/graph.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { type ElementType, elementCount } from '../../src/graph/types.ts'
import { type OpDef, type OpSample, type SampleInput, WORKING_OPSET } from '../../src/ops/support/define-op.ts'
import { upgradeNode } from '../../src/ops/upgrade.ts'

export type Float = 'float32' | 'float64'

export interface SampleModel {
  readonly model: Model
  readonly feeds: Record<string, Tensor>
  /** Graph inputs of float type, in the order of the node's inputs. */
  readonly variables: readonly Value[]
}

const isFloat = (type: ElementType): boolean => type === 'float32' || type === 'float64'

function tensorOf(input: SampleInput, type: ElementType, rng: Rng): Tensor {
  const n = elementCount(input.dims)
  const [low, high] = input.range ?? [-1, 1]
  const values = input.values ?? Array.from({ length: n }, () => rng.uniform(low, high))
  return Tensor.from(type, input.dims, values)
}

/** Float32 inputs become `float`. The opset is the sample's own, the IR one that lets initializers be constants. */
export function buildSample(def: OpDef, sample: OpSample, float: Float): SampleModel {
  const model = new Model(new Graph('sample'), sample.opset ?? WORKING_OPSET)
  model.irVersion = Math.max(model.irVersion, 8)
  if (def.domain) model.opsets.set(def.domain, 1)
  const { graph } = model
  const feeds: Record<string, Tensor> = {}
  const variables: Value[] = []
  const rng = new Rng(20, def.op.length, sample.name.length)
  const inputs = sample.inputs.map((input, i) => {
    if (!input) return null
    const declared = input.type ?? 'float32'
    const type = declared === 'float32' ? float : declared
    const tensor = tensorOf(input, type, rng)
    if (input.constant ?? !isFloat(type)) return graph.addInitializer(`c${i}`, tensor)
    const v = graph.addInput(`x${i}`, { elem: type, dims: input.dims })
    feeds[v.name] = tensor
    if (isFloat(type)) variables.push(v)
    return v
  })
  const outputs = Array.from({ length: sample.outputs ?? 1 }, (_, i) => `y${i}`)
  const attributes = sample.attributes ?? {}
  const node = graph.append().node({ op: def.op, domain: def.domain ?? '', name: 'n', inputs, outputs, attributes })
  for (const v of node.outputs) if (v) graph.addOutput(v)
  return { model, feeds, variables }
}

/** Lifts the model's one node to WORKING_OPSET; true where anything was rewritten. */
export function upgradeSample(model: Model): boolean {
  const nodes: readonly Node[] = [...model.graph.nodes()]
  let changed = false
  for (const n of nodes) if (upgradeNode(n, model.opset, WORKING_OPSET)) changed = true
  model.setOpset(Math.max(model.opset, WORKING_OPSET))
  return changed
}
