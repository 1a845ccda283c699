/**
 * Where the time of a training step goes, by kind of work and by layer, from the engine's profile of a step whose nodes say
 * what they are for (train/step/origins.ts), and how much of it waits for memory.
 *
 * Memory-bound: with fewer than BALANCE multiply-adds for each byte that the kernel reads and writes. Processors of today do
 * tens of multiply-adds in the time of a byte from memory (Williams et al., Roofline, 2009); all elementwise work has less
 * than one.
 */
import type { Graph } from '../../graph/graph.ts'
import { type Origin, originIn, originOf } from '../../graph/hints.ts'
import { WEIGHT_GRADIENT } from '../../lowerings/native/operators.ts'
import { channelSlot } from '../../ops/index.ts'
import { type Kernel, lastRuns } from '../../runtime/kernel-trace.ts'
import { type StepKind, stepKinds } from '../step/origins.ts'

/** Runs that count: the last ones. */
const RUNS = 10
const BALANCE = 4
const BYTES = 4
/** What the engine puts before the name of an operator that does more. */
const FUSED = /^Fused/

/** Time that a step of training spends on a kind of work. */
export interface KindTime {
  /** `other`: what the engine added, such as changes of layout. */
  readonly kind: StepKind | 'other'
  /** Milliseconds of all its kernels in one step. */
  readonly ms: number
  /** Fraction of the step's kernels. */
  readonly share: number
  /** Fraction of `ms` in memory-bound kernels. */
  readonly memoryBound: number
}

/** Time that a step of training spends on a layer. */
export interface LayerTime {
  /** Node name; '' for work of no layer. */
  readonly layer: string
  readonly ms: number
  readonly share: number
  /** Milliseconds by kind, where there are any. */
  readonly kinds: Readonly<Partial<Record<KindTime['kind'], number>>>
}

/** Where the time of a step of training goes. */
export interface StepProfile {
  /** Steps that were averaged over. */
  readonly steps: number
  readonly kernels: number
  readonly ms: number
  readonly memoryBound: number
  readonly kinds: readonly KindTime[]
  /** The longest first. */
  readonly layers: readonly LayerTime[]
}

/** `step`: the graph that was run, as it was before the engine changed it. */
export function profileOfStep(trace: string, step: Graph): StepProfile {
  const { runs, kernels } = lastRuns(trace, RUNS)
  const total = sum(kernels)
  const bound = kernels.filter(isMemoryBound)
  const found = new Map(kernels.map((k) => [k.node, originOfKernel(k.node, step)]))
  const kindOf = (k: Kernel): KindTime['kind'] => stepKinds.find((kind) => kind === found.get(k.node)?.kind) ?? 'other'
  const inMs = (us: number): number => us / 1000 / Math.max(1, runs)
  const kinds = [...stepKinds, 'other' as const].flatMap((kind) => {
    const us = sum(kernels.filter((k) => kindOf(k) === kind))
    if (us === 0) return []
    const memoryBound = sum(bound.filter((k) => kindOf(k) === kind)) / us
    return { kind, ms: inMs(us), share: us / total, memoryBound }
  })
  const layers = [...grouped(kernels, (k) => found.get(k.node)?.layer ?? '')].map(([layer, own]) => {
    const byKind = [...grouped(own, kindOf)].map(([kind, of]) => [kind, inMs(sum(of))] as const)
    return { layer, ms: inMs(sum(own)), share: sum(own) / total, kinds: Object.fromEntries(byKind) }
  })
  return {
    ...{ steps: runs, kernels: Math.round(kernels.length / Math.max(1, runs)), ms: inMs(total) },
    ...{ memoryBound: sum(bound) / total, kinds, layers: layers.sort((a, b) => b.ms - a.ms) },
  }
}

/** Convolutions that the engine moves to its own layout have the names of the values that they give. */
const MOVED = '_nchwc'

function originOfKernel(node: string, step: Graph): Origin | null {
  const said = originIn(node)
  if (said || !node.endsWith(MOVED)) return said
  const producer = step.find(node.slice(0, -MOVED.length))?.producer
  return producer ? originOf(producer) : null
}

const sum = (kernels: readonly Kernel[]): number => kernels.reduce((us, k) => us + k.us, 0)

function grouped<K>(kernels: readonly Kernel[], keyOf: (k: Kernel) => K): Map<K, Kernel[]> {
  const groups = new Map<K, Kernel[]>()
  for (const k of kernels) {
    const group = groups.get(keyOf(k))
    if (group) group.push(k)
    else groups.set(keyOf(k), [k])
  }
  return groups
}

const count = (dims: readonly number[] | undefined): number => (dims ?? [0]).reduce((p, d) => p * d, 1)

function isMemoryBound(k: Kernel): boolean {
  const bytes = BYTES * [...k.inputs, ...k.outputs].reduce((n, dims) => n + count(dims), 0)
  return multiplyAdds(k) < BALANCE * bytes
}

/** Of convolutions and products of matrices; others have about one an element, which is never enough. */
function multiplyAdds({ op, inputs: [a, b], outputs: [y] }: Kernel): number {
  // dw[o, i, ...] is a sum over images and positions of dy
  if (op === WEIGHT_GRADIENT && b && y) return count(y) * (count(b) / b[1]!)
  const slot = channelSlot({ op: op.replace(FUSED, ''), domain: '' })
  if (!slot || !a || !b || !y) return 0
  if (slot.channels === 'window') return count(slot.transposed ? a : y) * count(b.slice(1))
  if (a.length < 2 || b.length < 2) return 0
  // A: B m k, B: B k n, y: B m n, whichever of them are transposed
  const batch = Math.min(count(a.slice(0, -2)), count(b.slice(0, -2)))
  return count(y) * Math.sqrt((count(a) * count(b)) / (count(y) * batch))
}
