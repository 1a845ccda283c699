/** Which layers a pruning or quantising pass treats (options: layer-options.ts). */
import { modelError } from '../errors.ts'
import type { Graph } from '../graph/graph.ts'
import { hiddenWeight, type WeightLayer, weightLayers } from './layers.ts'
import { selectNamed } from './select.ts'

export interface LayerChoice {
  readonly ops: readonly string[]
  readonly only: readonly string[] | undefined
  readonly exclude: readonly string[] | undefined
}

export interface ChosenLayers {
  readonly all: readonly WeightLayer[]
  readonly chosen: readonly WeightLayer[]
  /** Those left out, and why. */
  readonly left: readonly { layer: WeightLayer; reason: string }[]
}

/**
 * Layers of the wanted types that `only` and `exclude` leave. A shared weight is treated only where all its users are
 * of the wanted types and none is excluded. A model error where there is no layer of these types at all.
 */
export function chooseLayers(graph: Graph, { ops, only, exclude }: LayerChoice): ChosenLayers {
  const all = weightLayers(graph).map((layer) => ({
    layer,
    names: [...new Set([...layer.names, ...layer.users.map((n) => n.id)])],
  }))
  const ofType = all.filter(({ layer }) => layer.users.every((n) => ops.includes(n.op)))
  if (ofType.length === 0) {
    const there = [...new Set(all.map(({ layer }) => layer.node.op))].join(', ')
    throw modelError('no-layers', `the model has no ${ops.join(' or ')} layers with constant weights`, {
      next: there ? `its layers are ${there}: name them with --ops` : whyNone(graph),
    })
  }
  const wanted = only ? selectNamed(only, ofType, 'layer') : new Set(ofType)
  const unwanted = exclude ? selectNamed(exclude, ofType, 'layer') : new Set()
  const chosen: WeightLayer[] = []
  const left: { layer: WeightLayer; reason: string }[] = []
  for (const entry of ofType) {
    const { layer } = entry
    if (unwanted.has(entry)) left.push({ layer, reason: 'excluded by name' })
    else if (!wanted.has(entry)) left.push({ layer, reason: 'not among the names given' })
    else if (layer.tensor.size === 0) left.push({ layer, reason: 'its weight has no elements' })
    else chosen.push(layer)
  }
  return { all: all.map(({ layer }) => layer), chosen, left }
}

function whyNone(graph: Graph): string {
  if (graph.inputs.some((v) => v.default))
    return 'its weights are inputs with a default: leave --keep-overridable out to make constants of them'
  const hidden = hiddenWeight(graph)
  if (!hidden) return 'it has no layers with constant weights at all'
  const { domain, label } = hidden.by
  const what = domain ? `${label} (a domain that mnc does not know)` : label
  return `the weight of ${hidden.layer.label} passes ${what} on its way`
}
