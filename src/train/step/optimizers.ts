/**
 * Optimisers as nodes over flat vectors (see flat-layout.ts). PyTorch's definitions:
 *
 *   sgd     g += wd w;  m = mu m + g;  w -= lr (nesterov ? g + mu m : m)
 *   adamw   w -= lr wd w;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;
 *           w -= lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps)
 *
 * The learning rate and AdamW's bias corrections enter as graph inputs; weight decay and learning-rate factors are
 * scalars, or vectors where they differ between parameters.
 */
import type { Builder } from '../../graph/builder.ts'
import type { Value } from '../../graph/graph.ts'
import { Tensor } from '../../graph/tensor.ts'
import type { optimizerNames } from '../train-options.ts'

export type OptimizerName = (typeof optimizerNames)[number]

export interface OptimizerOptions {
  readonly optimizer: OptimizerName
  readonly momentum: number
  readonly nesterov: boolean
  readonly weightDecay: number
  readonly beta2: number
  readonly epsilon: number
  /** Largest global L2 norm of the gradient; 0: not clipped. */
  readonly clipNorm: number
}

export const optimizerDefaults: OptimizerOptions = {
  optimizer: 'sgd',
  momentum: 0.9,
  nesterov: false,
  weightDecay: 1e-4,
  beta2: 0.999,
  epsilon: 1e-8,
  clipNorm: 0,
}

/** Names of the optimiser's own vectors. */
export const slotsOf = (o: OptimizerName): readonly string[] => (o === 'sgd' ? ['momentum'] : ['moment1', 'moment2'])

/** Scalars that the host feeds each step. */
export const hyperInputsOf = (o: OptimizerName): readonly string[] =>
  o === 'sgd' ? ['lr'] : ['lr', 'correction1', 'correction2']

/** What the host feeds at `step` (from 0). */
export function hyperFeeds(o: OptimizerOptions, lr: number, step: number): Record<string, Tensor> {
  const feeds: Record<string, Tensor> = { lr: Tensor.scalar(lr) }
  if (o.optimizer === 'adamw') {
    feeds.correction1 = Tensor.scalar(1 / (1 - o.momentum ** (step + 1)))
    feeds.correction2 = Tensor.scalar(1 / (1 - o.beta2 ** (step + 1)))
  }
  return feeds
}

/** Per-parameter factors where they differ; a single number otherwise. */
export type Factor = number | Float32Array

export interface UpdateInputs {
  readonly weights: Value
  readonly gradient: Value
  readonly slots: readonly Value[]
  readonly hyper: Readonly<Record<string, Value>>
  readonly weightDecay: Factor
  readonly learningRate: Factor
}

export interface Update {
  readonly weights: Value
  readonly slots: readonly Value[]
  /** Global L2 norm of the gradient before clipping. */
  readonly gradientNorm: Value
}

export function emitUpdate(b: Builder, o: OptimizerOptions, u: UpdateInputs): Update {
  const gradientNorm = b.op('ReduceL2', [u.gradient], { keepdims: 0 }, { name: 'gradient_norm' })
  const gradient = o.clipNorm > 0 ? clipped(b, u.gradient, gradientNorm, o.clipNorm) : u.gradient
  const decay = factor(b, u.weightDecay, 'weight_decay')
  const scale = factor(b, u.learningRate, 'lr_factor')
  const lr = scale ? b.op('Mul', [u.hyper.lr!, scale]) : u.hyper.lr!
  const step =
    o.optimizer === 'sgd' ? sgd(b, o, { ...u, gradient }, decay, lr) : adamw(b, o, { ...u, gradient }, decay, lr)
  return { ...step, gradientNorm }
}

type Step = Omit<Update, 'gradientNorm'>

function sgd(b: Builder, o: OptimizerOptions, u: UpdateInputs, decay: Value | null, lr: Value): Step {
  const g = decay ? b.op('Add', [u.gradient, b.op('Mul', [u.weights, decay])]) : u.gradient
  const m = b.op('Add', [b.op('Mul', [u.slots[0]!, b.scalar(o.momentum)]), g])
  const direction = o.nesterov ? b.op('Add', [g, b.op('Mul', [m, b.scalar(o.momentum)])]) : m
  return { weights: b.op('Sub', [u.weights, b.op('Mul', [direction, lr])]), slots: [m] }
}

function adamw(b: Builder, o: OptimizerOptions, u: UpdateInputs, decay: Value | null, lr: Value): Step {
  const mix = (old: Value, now: Value, beta: number): Value =>
    b.op('Add', [b.op('Mul', [old, b.scalar(beta)]), b.op('Mul', [now, b.scalar(1 - beta)])])
  const m = mix(u.slots[0]!, u.gradient, o.momentum)
  const v = mix(u.slots[1]!, b.op('Mul', [u.gradient, u.gradient]), o.beta2)
  const kept = decay ? b.op('Sub', [u.weights, b.op('Mul', [u.weights, b.op('Mul', [decay, lr])])]) : u.weights
  const root = b.op('Sqrt', [b.op('Mul', [v, u.hyper.correction2!])])
  const ratio = b.op('Div', [b.op('Mul', [m, u.hyper.correction1!]), b.op('Add', [root, b.scalar(o.epsilon)])])
  return { weights: b.op('Sub', [kept, b.op('Mul', [ratio, lr])]), slots: [m, v] }
}

/** PyTorch's clip_grad_norm_: g * min(1, max / (norm + 1e-6)). */
function clipped(b: Builder, g: Value, norm: Value, max: number): Value {
  const ratio = b.op('Div', [b.scalar(max), b.op('Add', [norm, b.scalar(1e-6)])])
  return b.op('Mul', [g, b.op('Min', [ratio, b.scalar(1)])])
}

/** null where the factor is 0 (decay) or 1 (learning rate) throughout and the node can go. */
function factor(b: Builder, f: Factor, name: string): Value | null {
  if (typeof f === 'number') {
    const neutral = name === 'weight_decay' ? 0 : 1
    return f === neutral ? null : b.scalar(f)
  }
  const runs = runsOf(f)
  if (runs.length > FEW_RUNS) return b.initializer(name, Tensor.float32([f.length], f))
  const parts = runs.map(({ value, count }) =>
    b.op('ConstantOfShape', [b.ints([count])], { value: Tensor.float32([1], [value]) }),
  )
  return parts.length === 1 ? parts[0]! : b.op('Concat', parts, { axis: 0 }, { name })
}

/** A vector of so few runs is written as runs: learned scales without decay come after all weights with it. */
const FEW_RUNS = 16

function runsOf(f: Float32Array): readonly { readonly value: number; readonly count: number }[] {
  const runs: { value: number; count: number }[] = []
  for (const value of f) {
    const last = runs.at(-1)
    if (last?.value === value) last.count++
    else runs.push({ value, count: 1 })
  }
  return runs
}
