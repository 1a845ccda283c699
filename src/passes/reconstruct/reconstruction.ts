/** The work of `reconstruct` (../reconstruct.ts): block after block trained, on what those before it give by then. */
import { MncError } from '../../base/errors.ts'
import { stopIfAborted } from '../../base/long-run.ts'
import { Rng } from '../../base/rng.ts'
import { cloneModel } from '../../graph/clone.ts'
import type { Node, Value } from '../../graph/graph.ts'
import type { Model } from '../../graph/model.ts'
import { Tensor } from '../../graph/tensor.ts'
import { type Block, blocksOf } from '../../layers/blocks.ts'
import { asInitializer, type WeightLayer, weightLayers } from '../../layers/layers.ts'
import { useRunningStatistics } from '../../layers/training-mode.ts'
import { toWorkingOpset } from '../../ops/raise-opset.ts'
import type { PassContext } from '../../pass-manager/define-pass.ts'
import { piecesOf } from '../../quant/observe.ts'
import { widenFloats } from '../widen-floats.ts'
import { type Batch, errorOf, type Importance, mixed, outputsOf, varianceOf } from './block-data.ts'
import { blockModel } from './block-model.ts'
import { BlockStep } from './block-step.ts'
import { importanceOf } from './importance.ts'
import { DirectWeight, type LearnedWeight, RoundedWeight } from './learned-weight.ts'

export interface ReconstructOptions {
  /** For each block. */
  readonly steps: number
  /** That a block has at least. */
  readonly layers: number
  readonly rounding: 'direct' | 'adaround' | 'keep'
  /** The error of a block: of all numbers alike, or by what the network's outputs make of them. */
  readonly loss: 'nmse' | 'fisher'
  /** Part of a block's inputs that come from the float network. */
  readonly drop: number
  /** Factor of all learning rates. */
  readonly rate: number
  readonly allowNonfinite?: boolean | undefined
}

/** A copy in the form that gradients are known for; initializers keep their names. */
export function trainable(model: Model): Model {
  const copy = cloneModel(model)
  copy.graph.fixDefaults()
  widenFloats(copy)
  toWorkingOpset(copy)
  useRunningStatistics(copy)
  return copy
}

export class Reconstruction {
  /** Where results go. */
  readonly #model: Model
  /** What is trained: a copy, with results so far. */
  readonly #copy: Model
  readonly #float: Model
  readonly #fit: ReadonlySet<string>
  readonly #o: ReconstructOptions
  readonly #ctx: PassContext

  constructor(model: Model, float: Model, fit: ReadonlySet<string>, o: ReconstructOptions, ctx: PassContext) {
    this.#model = model
    this.#copy = trainable(model)
    this.#float = float
    this.#fit = fit
    this.#o = o
    this.#ctx = ctx
  }

  /** Whether any block came nearer. */
  async run(): Promise<boolean> {
    const layers = weightLayers(this.#copy.graph).filter((l) => this.#fit.has(l.name))
    const nodes = new Set<Node>(layers.flatMap((l) => l.users))
    const blocks = blocksOf(this.#copy.graph, (n) => nodes.has(n), this.#o.layers)
    let quantised = await this.#inputs(blocks[0]!)
    let float = quantised
    let changed = false
    const importance = await this.#importance(blocks, float)
    for (const [i, block] of blocks.entries()) {
      const there = (list: readonly Value[]): Value[] => list.map((v) => this.#float.graph.find(v.name)!)
      const wanted = await outputsOf(
        blockModel(this.#float, there(block.entries), there(block.exits), float[0]!),
        float,
      )
      // those that memory has no room for are left out from here on
      quantised = quantised.slice(0, wanted.length)
      const here = () => outputsOf(blockModel(this.#copy, block.entries, block.exits, quantised[0]!), quantised)
      let given = await here()
      const own = layers.filter((l) => l.users.every((n) => block.nodes.includes(n)))
      if (own.length > 0) {
        const weights = block.exits.map((v) => importance.get(v.name) ?? null)
        const before = errorOf(given, wanted, weights)
        const undo = await this.#train(
          block,
          own,
          { quantised, float, wanted, weights },
          { first: before, index: i, of: blocks.length },
        )
        const now = await here()
        const after = errorOf(now, wanted, weights)
        if (after < before) {
          given = now
          changed = true
        } else undo()
        const names = own.map((l) => l.name).join(', ')
        const change = after < before ? after.toPrecision(3) : `no less (${after.toPrecision(3)})`
        this.#ctx.log(`block ${i + 1} of ${blocks.length} (${names}): ${before.toPrecision(3)} to ${change}`)
      }
      const next = blocks[i + 1]
      if (!next) break
      quantised = carried(next, block, quantised, given)
      float = carried(next, block, float, wanted)
    }
    return changed
  }

  /** By exit; none where they are not asked for, or there is a node without a gradient. */
  async #importance(blocks: readonly Block[], float: readonly Batch[]): Promise<ReadonlyMap<string, Importance>> {
    if (this.#o.loss !== 'fisher') return new Map()
    const exits = blocks.flatMap((b) => b.exits.map((v) => v.name))
    const entries = blocks[0]!.entries.map((v) => v.name)
    return importanceOf(this.#float, exits, entries, float, this.#ctx.seed).catch((error: unknown) => {
      if (!(error instanceof MncError) || error.blame !== 'model') throw error
      this.#ctx.log(`all numbers that a block gives count alike: ${error.message}`)
      return new Map()
    })
  }

  async #inputs(block: Block): Promise<Batch[]> {
    const found: Batch[] = []
    let filled: Batch | null = null
    const data = piecesOf(cloneModel(this.#copy), this.#ctx.calibration!, { held: [], ...this.#o })
    for await (const { feeds, size, count } of data) {
      const batch = block.entries.map((v) => feeds[v.name]!)
      const isLike = batch.every((t, i) => t.dims.join() === (found[0] ?? batch)[i]!.dims.join())
      if (count === size && isLike) found.push(batch)
      else filled ??= batch
    }
    // a model of one batch that is larger than the data: samples that fill it up are copies of others
    return found.length === 0 && filled ? [filled] : found
  }

  /** Trains and writes the results; returns what takes them back. */
  async #train(
    block: Block,
    layers: readonly WeightLayer[],
    data: BlockData,
    { first, index, of }: { readonly first: number; readonly index: number; readonly of: number },
  ): Promise<() => void> {
    const { steps, drop, rate, rounding } = this.#o
    const { quantised, float, wanted, weights: importance } = data
    const learned = (rounding === 'keep' ? [] : layers).map((l): LearnedWeight => {
      const start = l.tensor.toFloat32()
      const latent = weightOf(this.#float, l).toFloat32()
      return rounding === 'direct' ? new DirectWeight(l, start) : new RoundedWeight(l, latent, start, rate)
    })
    const own = new Set(block.nodes)
    const graph = this.#copy.graph
    const isOwn = (name: string): boolean => {
      const v = graph.find(name)
      return v?.constant != null && [...v.uses].every((n) => own.has(n))
    }
    const variances = block.exits.map((_, k) => varianceOf(wanted, k))
    const step = await BlockStep.of(
      blockModel(this.#copy, block.entries, block.exits, quantised[0]!),
      learned,
      { examples: wanted[0]!, variances, importance },
      isOwn,
    ).catch((error: unknown) => {
      if (!(error instanceof MncError) || error.blame !== 'model') throw error
      for (const l of layers) this.#ctx.decline(l.name, error.message)
      return null
    })
    if (!step) return () => {}
    const rng = new Rng(this.#ctx.seed, index)
    let order: number[] = []
    try {
      for (let k = 0; k < steps; k++) {
        stopIfAborted(this.#ctx.signal)
        this.#ctx.onProgress?.(index * steps + k, of * steps)
        if (order.length === 0) order = shuffled(quantised.length, rng)
        const at = order.pop()!
        const progress = k / steps
        const cosine = rate * 0.5 * (1 + Math.cos(Math.PI * progress))
        await step.run(mixed(quantised[at]!, float[at]!, drop, rng), wanted[at]!, { progress, rate: cosine, first })
      }
    } finally {
      await step.dispose()
    }
    const changes = new Map(step.results)
    for (const w of learned) {
      const { weight, scale } = w.result()
      changes.set(w.layer.weight.name, Tensor.float32(w.layer.tensor.dims, weight))
      const { dims } = w.layer.quant!.scale.constant!
      changes.set(w.layer.quant!.scale.name, Tensor.from('float32', dims, scale))
    }
    return this.#write(changes)
  }

  #write(changes: ReadonlyMap<string, Tensor>): () => void {
    const old = new Map<string, readonly [Tensor, Tensor]>()
    for (const [name, tensor] of changes) {
      const here = this.#copy.graph.find(name)!
      const there = asInitializer(this.#model.graph.find(name)!)
      old.set(name, [here.constant!, there.constant!])
      here.setConstant(tensor)
      const { type, dims } = there.constant!
      there.setConstant(Tensor.from(type, dims, tensor.toFloat32()))
    }
    return () => {
      for (const [name, [here, there]] of old) {
        this.#copy.graph.find(name)!.setConstant(here)
        this.#model.graph.find(name)!.setConstant(there)
      }
    }
  }
}

interface BlockData {
  readonly quantised: readonly Batch[]
  readonly float: readonly Batch[]
  readonly wanted: readonly Batch[]
  readonly weights: readonly (Importance | null)[]
}

/** What enters the next block: what this one gives, or what entered it. */
const carried = (next: Block, { entries, exits }: Block, entered: readonly Batch[], given: readonly Batch[]): Batch[] =>
  given.map((batch, i) => next.entries.map((v) => batch[exits.indexOf(v)] ?? entered[i]![entries.indexOf(v)]!))

function weightOf(float: Model, layer: WeightLayer): Tensor {
  return float.graph.find(layer.weight.name)!.constant!
}

function shuffled(n: number, rng: Rng): number[] {
  const order = Array.from({ length: n }, (_, i) => i)
  for (let i = n - 1; i > 0; i--) {
    const j = rng.next32() % (i + 1)
    ;[order[i], order[j]] = [order[j]!, order[i]!]
  }
  return order
}
