/** How two models differ in meaning: `mnc diff`. Order of nodes and initializers, and layout of the file, do not count. */
import { encodeModel } from '../codec/codec.ts'
import type { Model } from '../graph/model.ts'
import { formatType } from '../graph/types.ts'
import { diffNodes, type NodeDiff } from './diff-nodes.ts'
import { diffLayers, diffTensors, type LayerChange, type TensorDiff } from './diff-weights.ts'
import { modelInfo } from './model-info.ts'

export interface Pair<T> {
  readonly before: T
  readonly after: T
}

export interface ModelDiff {
  /** Nothing that a program would notice differs. */
  readonly identical: boolean
  readonly opset: Pair<number>
  readonly bytes: Pair<number>
  readonly parameters: Pair<number>
  readonly macs: Pair<number | null>
  /** Fraction of the layers' weights that are zero. */
  readonly sparsity: Pair<number>
  /** Inputs and outputs as `name type`, where they differ. */
  readonly interface: Pair<readonly string[]> | null
  readonly nodes: NodeDiff
  readonly tensors: TensorDiff
  readonly layers: readonly LayerChange[]
  /** Keys of metadata_props whose values differ. */
  readonly metadata: readonly string[]
}

export interface DiffOptions {
  /** Sizes of the files that the models were read from; counted again by default. */
  readonly bytes?: Pair<number | undefined>
  readonly warn?: (message: string) => void
}

/** Neither model is changed. */
export async function diffModels(a: Model, b: Model, options: DiffOptions = {}): Promise<ModelDiff> {
  const { bytes, warn = () => {} } = options
  const x = await modelInfo(a, { bytes: bytes?.before ?? encodeModel(a).length, warn })
  const y = await modelInfo(b, { bytes: bytes?.after ?? encodeModel(b).length, warn })
  const pair = <T>(of: (i: typeof x) => T): Pair<T> => ({ before: of(x), after: of(y) })
  const nodes = diffNodes(a.graph, b.graph)
  const tensors = diffTensors(a.graph, b.graph)
  const ports = (m: Model): string[] => [
    ...m.graph.inputs.map((v) => `input ${v.name} ${formatType(v.type)}`),
    ...m.graph.outputs.map((v) => `output ${v.name} ${formatType(v.type)}`),
  ]
  const interfaces = { before: ports(a), after: ports(b) }
  const sameInterface = interfaces.before.join('\n') === interfaces.after.join('\n')
  const keys = new Set([...a.metadata.keys(), ...b.metadata.keys()])
  const metadata = [...keys].filter((k) => a.metadata.get(k) !== b.metadata.get(k)).sort()
  const moved = [nodes, tensors].some((d) => d.added.length + d.removed.length + d.changed.length > 0)
  return {
    identical: !moved && sameInterface && metadata.length === 0 && x.opset === y.opset,
    opset: pair((i) => i.opset),
    bytes: pair((i) => i.bytes),
    parameters: pair((i) => i.parameters),
    macs: pair((i) => i.macs),
    sparsity: pair(({ layers }) => {
      const weights = layers.reduce((n, l) => n + l.weights, 0)
      return layers.reduce((n, l) => n + l.sparsity * l.weights, 0) / Math.max(1, weights)
    }),
    interface: sameInterface ? null : interfaces,
    nodes,
    tensors,
    layers: await diffLayers(a, b, warn),
    metadata,
  }
}
