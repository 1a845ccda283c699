/** The activations that native kernels know (native/kernels.h), and gradients of those that no normalisation takes in. */
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { type Gradients, withOriginOf } from '../../graph/hints.ts'
import { isRectifier, type Ramp } from '../../ops/facts.ts'
import { findOp } from '../../ops/index.ts'
import { ACTIVATION_GRADIENT, STEP_DOMAIN } from './operators.ts'

/** The numbers of its kinds are those of native/kernels.h. */
interface Activation {
  readonly activation: 0 | 1 | 2 | 3
  readonly least: number
  readonly most: number
}

export const LINEAR: Activation = { activation: 0, least: 0, most: 0 }

export function activationOf(n: Node): Activation | null {
  if (n.output.type?.elem !== 'float32') return null
  if (isRectifier(n)) return { ...LINEAR, activation: 1 }
  const op = findOp(n)
  const gate = op?.gatedBy
  if (gate) return isHardSwish(gate) ? { ...LINEAR, activation: 3 } : null
  const ramp = op?.ramp?.(n)
  if (ramp?.input !== 0 || ramp.slope !== 1 || ramp.offset !== 0 || n.outputs.length > 1) return null
  const { least, most } = ramp
  return Number.isFinite(least) && Number.isFinite(most) ? { activation: 2, least, most } : null
}

const isHardSwish = ({ slope, offset, least, most }: Ramp): boolean =>
  slope === 1 / 6 && offset === 0.5 && least === 0 && most === 1

export const attributesOf = ({ activation, least, most }: Activation) => ({
  activation,
  ...{ least: float(least), most: float(most) },
})

export const float = (value: number) => ({ kind: 'float', value }) as const

/** Those that are still there. Returns how many. */
export function fuseActivationGradients(graph: Graph, gradients: Gradients): number {
  let count = 0
  for (const n of [...graph.nodes()]) {
    const activation = activationOf(n)
    const own = activation && gradients.of(n)
    const [dz, dy] = [own?.inputs[0], own?.outputs[0]]
    if (!activation || !dz?.producer || !dz.isUsed || !dy) continue
    // the result of ReLU has the sign of what it reads, which need not be kept
    const z = isRectifier(n) ? n.output : n.input(0)
    const b = graph.before(dz.producer)
    const options = { domain: STEP_DOMAIN, ...withOriginOf(dz.producer) }
    takePlace(b.op(ACTIVATION_GRADIENT, [dy, z], attributesOf(activation), options), dz, n.input(0).type)
    count++
  }
  return count
}

/** With the name, by which marks know operands. */
export function takePlace(v: Value, old: Value, type: Value['type']): void {
  const { graph } = v
  const { name } = old
  v.setType(old.type ?? type)
  graph.replaceUses(old, v)
  graph.rename(old, graph.freshName(name))
  graph.rename(v, name)
}
