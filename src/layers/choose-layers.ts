/** Which layers a pruning or quantising pass treats (options: layer-options.ts). */
import { modelError } from '../base/errors.ts'
import type { Graph } from '../graph/graph.ts'
import { weightOps, weightSlots } from '../ops/index.ts'
import { hiddenWeight, type WeightLayer, weightLayers } from './layers.ts'
import { globToRegExp, selectNamed } from './select.ts'

export interface LayerChoice {
  readonly ops: readonly string[]
  readonly only: readonly string[] | undefined
  readonly exclude: readonly string[] | undefined
}

export interface LeftLayer {
  readonly layer: WeightLayer
  readonly reason: string
  /** The option that would take it. */
  readonly remedy?: string
}

export interface ChosenLayers {
  readonly all: readonly WeightLayer[]
  readonly chosen: readonly WeightLayer[]
  /** Those left out, and why. */
  readonly left: readonly LeftLayer[]
  /** Operators named that have weights but do not occur in this model. */
  readonly absent: readonly string[]
}

/**
 * Layers of the wanted types that `only` and `exclude` leave. A shared weight is treated only where all its users are
 * of the wanted types and none is excluded. A model error where there is no layer of these types at all; a usage error
 * for a name that matches nothing, or is not an operator with weights.
 */
export function chooseLayers(graph: Graph, { ops, only, exclude }: LayerChoice): ChosenLayers {
  const all = weightLayers(graph).map((layer) => ({
    layer,
    names: [...new Set([...layer.names, ...layer.users.map((n) => n.id)])],
  }))
  const { wanted: types, absent } = operators(ops, new Set(all.flatMap(({ layer }) => layer.users.map((n) => n.op))))
  const isOfType = ({ layer }: { layer: WeightLayer }): boolean => layer.users.every((n) => types.has(n.op))
  const ofType = all.filter(isOfType)
  if (ofType.length === 0) {
    const there = [...new Set(all.map(({ layer }) => layer.node.op))]
    throw modelError('no-layers', `the model has no ${ops.join(' or ')} layers with constant weights`, {
      next: there.length > 0 ? `its layers are ${there.join(', ')}: name them with --ops` : whyNone(graph),
    })
  }
  const wanted = only ? selectNamed(only, ofType, 'layer') : new Set(ofType)
  const unwanted = exclude ? selectNamed(exclude, ofType, 'layer') : new Set()
  const chosen: WeightLayer[] = []
  const left: LeftLayer[] = []
  for (const entry of all) {
    const { layer } = entry
    if (!isOfType(entry)) {
      const missing = [...new Set(layer.users.map((n) => n.op))].filter((op) => !types.has(op))
      const remedy = `--ops ${[...ops, ...missing].join(',')}`
      left.push({ layer, reason: `${missing.join(' and ')} is not among the operators to treat`, remedy })
    } else if (unwanted.has(entry))
      left.push({ layer, reason: 'excluded by name', remedy: 'leaving it out of --exclude' })
    else if (!wanted.has(entry)) {
      const remedy = `--only ${[...(only ?? []), layer.name].join(',')}`
      left.push({ layer, reason: 'not among the names given', remedy })
    } else if (layer.tensor.size === 0) left.push({ layer, reason: 'its weight has no elements' })
    else chosen.push(layer)
  }
  return { all: all.map(({ layer }) => layer), chosen, left, absent }
}

/** The operators that names and globs mean, of those in the model; `absent`: those that the model does not have. */
function operators(given: readonly string[], there: ReadonlySet<string>): { wanted: Set<string>; absent: string[] } {
  const wanted = new Set<string>()
  const absent: string[] = []
  for (const name of given) {
    const fits = globToRegExp(name)
    const hits = [...there].filter((op) => fits.test(op))
    for (const op of hits) wanted.add(op)
    if (hits.length > 0) continue
    selectNamed(
      [name],
      weightOps.map((op) => ({ names: [op] })),
      'operator with weights',
    )
    absent.push(name)
  }
  return { wanted, absent }
}

function whyNone(graph: Graph): string {
  if (graph.inputs.some((v) => v.default))
    return 'its weights are inputs with a default value: leave out --keep-overridable to make them constants'
  const hidden = hiddenWeight(graph)
  if (!hidden) {
    const inner = [...graph.allNodes()].find((n) => n.graph !== graph && weightSlots(n).length > 0)
    return inner
      ? `${inner.label} and others are inside bodies of If, Loop or Scan, which are left as they are`
      : 'it has no layers with constant weights at all'
  }
  const { domain, label } = hidden.by
  const what = domain ? `${label} (a domain that mnc does not know)` : label
  return `the weight of ${hidden.layer.label} passes through ${what} first`
}

/** Reports which operators were named in vain. */
export function noteAbsent(absent: readonly string[], { log }: { log(message: string): void }): void {
  if (absent.length > 0) log(`the model has no ${absent.join(' and no ')} layers with constant weights`)
}
