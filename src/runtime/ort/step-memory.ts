/**
 * What a training step takes of memory in onnxruntime, and takes with some of its activations computed again
 * (lowerings/recompute.ts): found from the graph that the engine gets, without running it.
 */
import { cloneModel, type ValueMap } from '../../graph/clone.ts'
import type { Model } from '../../graph/model.ts'
import { STEP_DOMAIN } from '../../lowerings/native/operators.ts'
import { recomputable, recompute } from '../../lowerings/recompute.ts'
import type { StepMemory } from '../executor.ts'
import { inferTypes } from '../isolated/infer-types.ts'
import { executionOrder } from './execution-order.ts'
import { arenaBytes } from './step-buffers.ts'

/**
 * Beyond what the model of the arena comes to: the engine's optimiser moves some nodes, kernels take working memory, and pieces
 * fall otherwise. Measured 0.93 to 1.19 times the model's (ResNets, DenseNet-BC-40-12, the mobile net of the zoo).
 */
const SLACK = 1.2
/** Of building and loading a step: graphs here, and the engine's own. */
const BYTES_A_NODE = 40_000

/** `step`: as the engine gets it, typed. */
export function stepMemory(step: Model): StepMemory {
  const order = executionOrder(step.graph)
  const constants = [...step.graph.initializers()].reduce((sum, v) => sum + (v.constant?.byteLength ?? 0), 0)
  const known = new Map<number, number>()
  const arena = (count: number): number => {
    if (count === 0) return arenaBytes(order)
    const copy = cloneModel(step)
    recomputeFirst(copy, count)
    return arenaBytes(executionOrder(copy.graph))
  }
  return {
    activations: recomputable(order).length,
    bytes(count) {
      const bytes = known.get(count) ?? SLACK * arena(count) + constants + BYTES_A_NODE * step.graph.nodeCount
      known.set(count, bytes)
      return bytes
    },
  }
}

/** Has the first `count` of what can be computed again computed again. In place; `step` is typed. */
export function recomputeFirst({ graph }: Model, count: number): void {
  recompute(recomputable(executionOrder(graph)).slice(0, count))
}

/** Sets the types of all values of a step that holds native operators, whose results have theirs. In place. */
export async function typeStep(step: Model): Promise<void> {
  const map: ValueMap = new Map()
  const standard = cloneModel(step, map)
  const { graph } = standard
  for (const n of [...graph.nodes()]) {
    if (n.domain !== STEP_DOMAIN) continue
    for (const v of n.outputs) if (v?.isUsed) graph.replaceUses(v, graph.addInput(graph.freshName(v.name), v.type))
    graph.remove(n)
  }
  standard.opsets.delete(STEP_DOMAIN)
  await inferTypes(standard)
  for (const [own, typed] of map) if (own.producer && typed.type?.dims) own.setType(typed.type)
}
