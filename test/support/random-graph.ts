/**
 * Random models of the supported operators, small enough to run in a millisecond, each a pure function of its seed:
 * convolutional, fully connected and sequence parts, residual sums, concatenations, activations and changes of layout in
 * the forms that exporters write. What the steps are: random-steps.ts.
 *
 * Every step draws from a random stream of its own, so that a model of fewer steps is the beginning of one of more and
 * steps can be left out one by one: `smallest` makes the smallest model that still shows a fault that way.
 */
import { Rng } from '../../src/base/rng.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { type StepKind, stepKinds, takeStep } from './random-steps.ts'

export interface RandomGraphOptions {
  /** Steps tried (some find no fitting value and add nothing); by default 3 to 12, by the seed. */
  readonly steps?: number
  /** Steps left out. */
  readonly without?: ReadonlySet<number>
  /** Kinds of steps to draw from; all by default. */
  readonly kinds?: readonly StepKind[]
  /** ai.onnx version; by default one of 13, 17 and 21, by the seed. */
  readonly opset?: number
  /** The first dim of inputs and outputs; by default open (`N`) or 2, by the seed. */
  readonly batch?: number | 'N'
}

const STREAM = { shape: 1, step: 2, outputs: 3 } as const
const OPSETS = [13, 17, 21] as const
/** Names as exporters write them: PyTorch's old and new ones, TensorFlow's. */
const PREFIXES = ['', '/layer/', 'model/block_1/', 'onnx::'] as const

/** Where a random model is built: what its steps read and add to. */
export class Site {
  readonly graph = new Graph('random')
  /** Values that later steps may read, with their dims behind the batch; the newest last. */
  readonly values = new Map<Value, readonly number[]>()
  readonly opset: number
  readonly #prefix: string

  constructor(opset: number, prefix: string) {
    this.opset = opset
    this.#prefix = prefix
  }

  name(base: string): string {
    return `${this.#prefix}${base}`
  }

  /** A float initializer, or the same in a Constant node. */
  constant(base: string, dims: readonly number[], at: () => number, asNode = false): Value {
    const size = dims.reduce((n, d) => n * d, 1)
    const tensor = Tensor.float32(dims, Float32Array.from({ length: size }, at))
    const name = this.graph.freshName(this.name(base))
    return asNode
      ? this.graph.append().op('Constant', [], { value: tensor }, { name })
      : this.graph.addInitializer(name, tensor)
  }
}

export function stepCount(seed: number): number {
  return 3 + new Rng(seed, STREAM.shape).integer(10)
}

export function randomGraph(seed: number, options: RandomGraphOptions = {}): Model {
  const shape = new Rng(seed, STREAM.shape)
  const steps = options.steps ?? stepCount(seed)
  shape.integer(10)
  const opset = options.opset ?? OPSETS[shape.integer(OPSETS.length)]!
  const batch = options.batch ?? (shape.chance(0.5) ? 'N' : 2)
  const site = new Site(opset, PREFIXES[shape.integer(PREFIXES.length)]!)
  const { graph, values } = site
  const size = 4 + shape.integer(4)
  const isImage = shape.chance(0.8)
  const dims = isImage ? [1 + shape.integer(8), size, size] : shape.chance(0.5) ? [4 + shape.integer(13)] : [size, 8]
  const typeOf = (inner: readonly number[]) => ({ elem: 'float32', dims: [batch, ...inner] }) as const
  values.set(graph.addInput(site.name('x'), typeOf(dims)), dims)
  if (shape.chance(0.15)) values.set(graph.addInput(site.name('y'), typeOf(dims)), dims)
  const kinds = options.kinds ?? stepKinds
  // a layer first and last: a model without one is refused by most passes
  for (let i = 0; i < steps; i++) {
    if (options.without?.has(i)) continue
    const rng = new Rng(seed, STREAM.step, i)
    const kind = i === 0 || i === steps - 1 ? 'layer' : kinds[rng.integer(kinds.length)]!
    takeStep(site, kind, rng)
  }
  if (![...values.keys()].some((v) => v.producer)) takeStep(site, 'layer', new Rng(seed, STREAM.step, steps))
  const inputs = new Set(graph.inputs)
  const rng = new Rng(seed, STREAM.outputs)
  const keepsTypes = rng.chance(0.5)
  for (const [v, inner] of values) {
    // a value that others read is an output too now and then
    const isOutput = !inputs.has(v) && (!v.isUsed || rng.chance(0.05))
    if (isOutput || keepsTypes) v.setType(typeOf(inner))
    if (isOutput) graph.addOutput(v)
  }
  return new Model(graph, opset)
}

/**
 * The options of the smallest model of this seed for which `fails` still says true: the fewest steps, then steps left out
 * as long as one can be.
 */
export async function smallest(
  seed: number,
  fails: (model: Model) => Promise<boolean>,
  options: RandomGraphOptions = {},
): Promise<RandomGraphOptions> {
  let best: RandomGraphOptions = { ...options, steps: options.steps ?? stepCount(seed) }
  const without = new Set(options.without)
  for (let changed = true; changed; ) {
    changed = false
    for (let i = best.steps! - 1; i >= 0; i--) {
      if (without.has(i)) continue
      const next = { ...best, without: new Set([...without, i]) }
      if (!(await fails(randomGraph(seed, next)))) continue
      without.add(i)
      best = next
      changed = true
    }
  }
  return best
}
