/**
 * What a block is trained with: one graph that computes its outputs, their distance to what the float network gives there,
 *
 *   L = sum over exits of  mean w (y - t)^2 / var(t)
 *
 * with w the importance of each number (importance.ts), or 1, and the gradient of that with respect to its weights as the layers see them (learned-weight.ts does the rest), the steps of its
 * inputs' quantisers (LSQ, Esser et al. 2020), and everything else that is trained: biases.
 */
import type { Value } from '../../graph/graph.ts'
import { marks } from '../../graph/marks.ts'
import type { Model } from '../../graph/model.ts'
import { sweepNode } from '../../graph/sweep.ts'
import { Tensor } from '../../graph/tensor.ts'
import { ACTIVATION_QUANT, weightLayers } from '../../layers/layers.ts'
import { trainableParameters } from '../../layers/parameters.ts'
import { quantPairOf } from '../../layers/quant-pair.ts'
import type { Session } from '../../runtime/executor.ts'
import { ortExecutor } from '../../runtime/ort/ort.ts'
import { differentiate, requireGradients } from '../autodiff.ts'
import { removeDead } from '../eliminate-dead.ts'
import { lowerCostly } from '../lower-costly.ts'
import { lowerFakeQuant } from '../lower-fake-quant.ts'
import { settleShapes } from '../shapes/settle-shapes.ts'
import { Adam } from './adam.ts'
import type { Importance } from './block-data.ts'
import type { BlockModel } from './block-model.ts'
import type { LearnedWeight, Moment } from './learned-weight.ts'

const quiet = { decline: () => {}, log: () => {}, seed: 0 }

/** A trained initializer that is no weight of a layer. */
interface Plain {
  readonly name: string
  readonly values: Float32Array
  readonly dims: readonly number[]
  readonly rate: number
  /** LSQ's factor of its gradient, for steps of quantisers. */
  readonly isStep: boolean
  readonly adam: Adam
}

/** Of a bias's root mean square, or that of what it is added to; of a quantiser's step. */
const BIAS_RATE = 0.004
const STEP_RATE = 0.004

export interface StepTargets {
  /** One for each exit: its type and dims. */
  readonly examples: readonly Tensor[]
  readonly variances: readonly number[]
  readonly importance: readonly (Importance | null)[]
}

export class BlockStep {
  readonly #session: Session
  readonly #block: BlockModel
  readonly #weights: readonly LearnedWeight[]
  readonly #plain: readonly Plain[]

  private constructor(session: Session, block: BlockModel, weights: readonly LearnedWeight[], plain: readonly Plain[]) {
    this.#session = session
    this.#block = block
    this.#weights = weights
    this.#plain = plain
  }

  /** `block` is used up. `isOwn`: initializers that nothing outside of the block reads. */
  static async of(
    block: BlockModel,
    learned: readonly LearnedWeight[],
    targets: StepTargets,
    isOwn: (name: string) => boolean,
  ): Promise<BlockStep> {
    const { model, images, outputs } = block
    const { graph } = model
    const weights = learned.map(({ layer }, i) => {
      const given = graph.addInput(`block/weight${i}`, { elem: 'float32', dims: layer.tensor.dims })
      const pair = images.get(layer.quant!.dequantize.output)!
      graph.replaceUses(pair, given)
      sweepNode(pair.producer!)
      return given
    })
    const layerWeights = new Set(weightLayers(graph).map((l) => l.weight))
    const steps = new Set(stepsOf(model).filter((v) => isOwn(v.name)))
    const biases = trainableParameters(graph).filter((v) => !layerWeights.has(v) && isOwn(v.name))
    await lowerFakeQuant.run(model, { learnScales: true }, quiet)
    await settleShapes(model)
    const plain = [...steps, ...biases]
      .filter((v) => v.isUsed && v.constant)
      .map((v): Plain & { value: Value } => {
        const values = v.constant!.toFloat32().slice()
        const isStep = steps.has(v)
        const size = Math.sqrt(values.reduce((s, x) => s + x * x, 0) / values.length)
        const rate = size * (isStep ? STEP_RATE : BIAS_RATE)
        return { value: v, name: v.name, values, dims: v.constant!.dims, rate, isStep, adam: new Adam(values.length) }
      })
    for (const p of plain) graph.initializerToInput(p.value)
    for (const p of plain) p.value.setType({ elem: 'float32', dims: p.dims })
    const loss = emitLoss(model, outputs, targets)
    const wanted = [...weights, ...plain.map((p) => p.value)]
    requireGradients(graph, wanted, [loss])
    const gradients = differentiate(model, new Map([[loss, graph.append().scalar(1)]]), wanted)
    lowerCostly(graph)
    for (const v of [...graph.outputs]) graph.removeOutput(v)
    graph.addOutput(loss)
    graph.rename(loss, 'block/loss')
    wanted.forEach((v, i) => {
      const g = gradients.get(v)
      if (g) graph.addOutput(graph.append().op('Identity', [g], {}, { name: `block/gradient${i}` }))
    })
    removeDead(graph)
    const session = await ortExecutor().load(model, { step: true })
    return new BlockStep(session, block, learned, plain)
  }

  /** One step on a batch. */
  async run(entries: readonly Tensor[], targets: readonly Tensor[], moment: Moment): Promise<void> {
    const feeds: Record<string, Tensor> = {}
    this.#block.inputs.forEach((name, i) => {
      feeds[name] = entries[i]!
    })
    targets.forEach((t, i) => {
      feeds[`block/target${i}`] = t
    })
    this.#weights.forEach((w, i) => {
      feeds[`block/weight${i}`] = w.value()
    })
    for (const p of this.#plain) feeds[p.name] = Tensor.float32(p.dims, p.values)
    const known = new Set(this.#session.inputNames)
    const out = await this.#session.run(Object.fromEntries(Object.entries(feeds).filter(([name]) => known.has(name))))
    const gradient = (i: number): Float32Array | undefined => out[`block/gradient${i}`]?.toFloat32()
    this.#weights.forEach((w, i) => {
      const g = gradient(i)
      if (g) w.update(g, moment)
    })
    this.#plain.forEach((p, i) => {
      const g = gradient(this.#weights.length + i)
      if (!g) return
      p.adam.step(p.values, g, p.rate * moment.rate)
      if (p.isStep) for (let k = 0; k < p.values.length; k++) p.values[k] = Math.max(p.values[k]!, LEAST_STEP)
    })
  }

  /** By name of the initializer. */
  get results(): ReadonlyMap<string, Tensor> {
    return new Map(this.#plain.map((p) => [p.name, Tensor.float32(p.dims, p.values)]))
  }

  dispose(): Promise<void> {
    return this.#session.dispose()
  }
}

const LEAST_STEP = 2 ** -40

function emitLoss(
  { graph }: Model,
  outputs: readonly string[],
  { examples, variances, importance }: StepTargets,
): Value {
  const b = graph.append()
  const scalar = { elem: 'float32', dims: [] } as const
  const parts = outputs.map((name, i) => {
    const y = graph.find(name)!
    const { dims, size } = examples[i]!
    const type = { elem: 'float32', dims } as const
    const t = graph.addInput(`block/target${i}`, type)
    const difference = b.op('Sub', [y, t], {}, { type })
    const square = b.op('Mul', [difference, difference], {}, { type })
    const weight = importance[i]
    const own = weight && b.initializer(`block/importance${i}`, Tensor.float32([1, ...dims.slice(1)], weight))
    const weighted = own ? b.op('Mul', [square, own], {}, { type }) : square
    const sum = b.op('ReduceSum', [weighted], { keepdims: 0 }, { type: scalar })
    return b.op('Mul', [sum, b.scalar(1 / (size * variances[i]!))], {}, { type: scalar })
  })
  return parts.reduce((a, p) => b.op('Add', [a, p], {}, { type: scalar }))
}

/** Steps of quantised inputs that may be learned: one number, of one quantiser alone. */
function stepsOf({ graph }: Model): Value[] {
  return [...graph.nodes()].flatMap((n) => {
    const pair = quantPairOf(n)
    if (!pair?.quantize || marks.role.get(n) !== ACTIVATION_QUANT) return []
    const { scale } = pair
    const isAlone = scale.constant?.type === 'float32' && scale.constant.size === 1 && scale.uses.size === 2
    return isAlone && !marks.frozen.is(scale) ? [scale] : []
  })
}
