/**
 * Cross-layer equalisation (Nagel, van Baalen, Blankevoort, Welling, arXiv:1906.04721, section 4.1): where nothing but
 * f(s x) = s f(x) lies between the outputs of layers and the layers that read them, each channel i gets
 *
 *   s_i = sqrt(r1_i / r2_i)      W1 and b1 by rows / s_i,   W2 by columns * s_i
 *
 * with r1 and r2 the largest weights of all rows that make the channel and of all columns that read it, so that both are
 * sqrt(r1 r2) then. Over all channels, again and again, until no factor changes by more than 1e-3. The network computes
 * the same as before; the ranges of channels become alike, so that one scale for all of them (inputs, or weights with
 * `--granularity tensor`) fits better.
 *
 * It goes through whatever keeps a factor (`scale-groups.ts`): ReLU and its relatives, pools, padding with zeros, resizing,
 * Flatten, Concat, Slice and Split, transposition, multiplication, depthwise layers, and additions, all of whose branches
 * then share it. A Clip gets limits per channel with `--clips per-channel`: Min and Max in its place, which integer
 * kernels do not compute together with the layer before it. `--absorb` adds high-bias absorption (layers/absorb-biases.ts).
 *
 * Declines, with the reason: other operators between (h-swish, sigmoid, a BatchNormalization that was not folded), a channel
 * that something else reads, shared and quantised weights, float16 weights that would leave its range. Channels of zeros stay
 * as they are. Behind `quantize` it is too late.
 */

import { type OptionsOf, optionTable } from '../base/options.ts'
import type { Model } from '../graph/model.ts'
import { absorbBiases } from '../layers/absorb-biases.ts'
import { applyScales, channelScales } from '../layers/channel-scales.ts'
import { chooseLayers, noteAbsent } from '../layers/choose-layers.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import { eachRun, outputChannels } from '../layers/layer-algebra.ts'
import { layerOptions } from '../layers/layer-options.ts'
import type { WeightLayer } from '../layers/layers.ts'
import { inputChannels, type ScaleGroups } from '../layers/scale-groups.ts'
import { groupsOf } from '../ops/facts.ts'
import { definePass, type PassContext } from '../pass-manager/define-pass.ts'
import { inlineFunctions } from './inline-functions.ts'

const options = optionTable({
  ...layerOptions,
  ops: { ...layerOptions.ops, default: ['*'] },
  clips: {
    type: 'string',
    enum: ['keep', 'per-channel'],
    default: 'keep',
    description: 'Leave layers before a Clip (ReLU6) alone, or give it limits of its own for each channel: Min and Max',
  },
  sums: {
    type: 'string',
    enum: ['share', 'leave'],
    default: 'share',
    description: 'All branches of a sum share a factor a channel, or layers before a sum are left alone',
  },
  absorb: {
    type: 'boolean',
    default: false,
    description:
      'Also move what a channel before a ReLU has in any case (its mean less three deviations, by the BatchNormalization folded into it) into the biases behind; outputs stay the same where no channel falls below',
  },
  rounds: {
    type: 'integer',
    minimum: 1,
    default: 200,
    description: 'Rounds over all channels, at most',
  },
  ...finiteOptions,
})

/** Factors nearer to 1 are left: another round of them gains nothing. */
const SETTLED = 1e-3

/** The largest weight of each pair of an output and an input channel of a layer, and their groups. */
interface Pairs {
  readonly layer: WeightLayer
  readonly rows: Int32Array | null
  readonly columns: Int32Array | null
  readonly row: Int32Array
  readonly column: Int32Array
  readonly largest: Float64Array
}

function pairsOf(layer: WeightLayer, groups: ScaleGroups): Pairs {
  const [rows, columns] = [groups.outputs(layer), groups.inputs(layer)]
  const [outs, ins, parts] = [outputChannels(layer), inputChannels(layer), groupsOf(layer.node)]
  const width = ins / parts
  const most = new Float32Array(outs * width)
  const mask = layer.mask?.constant?.toFloat32()
  let first = 0
  for (const part of layer.tensor.parts()) {
    const w = part.toFloat32()
    eachRun(layer, first, w.length, (from, to, o, i) => {
      const at = o * width + (i % width)
      for (let e = from; e < to; e++) most[at] = Math.max(most[at]!, Math.abs(w[e]! * (mask?.[first + e] ?? 1)))
    })
    first += w.length
  }
  const rowOf = (k: number): number => rows?.[Math.floor(k / width)] ?? -1
  const columnOf = (k: number): number =>
    columns?.[Math.floor((Math.floor(k / width) * parts) / outs) * width + (k % width)] ?? -1
  // what reads and makes the same channel is not changed by its factor
  const used = Array.from(most.keys()).filter((k) => rowOf(k) !== columnOf(k))
  return {
    ...{ layer, rows, columns },
    row: Int32Array.from(used, rowOf),
    column: Int32Array.from(used, columnOf),
    largest: Float64Array.from(used, (k) => most[k]!),
  }
}

/**
 * Entries of all layers: largest weight, and the groups of its row and column. Groups are numbered anew, 0 stands for those
 * that stay; `#entries` from `#start[g]` to `#start[g + 1]` are those that group g takes part in.
 */
class Balance {
  readonly #numbers = new Map<number, number>([[-1, 0]])
  readonly #row: Int32Array
  readonly #column: Int32Array
  readonly #largest: Float64Array
  readonly #start: Int32Array
  readonly #entries: Int32Array
  /** The factor of each group: columns are multiplied by it, rows divided. */
  readonly #factor: Float64Array

  constructor(pairs: readonly Pairs[]) {
    const numbered = (of: (p: Pairs) => Int32Array): Int32Array =>
      Int32Array.from(
        pairs.flatMap((p) => Array.from(of(p))),
        (g) => this.#number(g),
      )
    this.#row = numbered((p) => p.row)
    this.#column = numbered((p) => p.column)
    this.#largest = Float64Array.from(pairs.flatMap((p) => Array.from(p.largest)))
    this.#start = new Int32Array(this.#numbers.size + 1)
    for (const side of [this.#row, this.#column]) for (const g of side) this.#start[g + 1]!++
    for (let g = 0; g < this.#numbers.size; g++) this.#start[g + 1]! += this.#start[g]!
    this.#entries = new Int32Array(2 * this.#largest.length)
    const next = this.#start.slice()
    for (const side of [this.#row, this.#column]) for (const [e, g] of side.entries()) this.#entries[next[g]!++] = e
    this.#factor = new Float64Array(this.#numbers.size).fill(1)
  }

  #number(group: number): number {
    const known = this.#numbers.get(group)
    if (known !== undefined) return known
    this.#numbers.set(group, this.#numbers.size)
    return this.#numbers.size - 1
  }

  /** Balances each channel, one after the other; returns the largest change of a factor. */
  round(): number {
    let change = 0
    for (let g = 1; g < this.#factor.length; g++) {
      const factor = this.#imbalance(g)
      // a channel of zeros on either side
      if (!(factor > 0) || factor === Number.POSITIVE_INFINITY) continue
      change = Math.max(change, Math.abs(Math.log(factor)))
      this.#factor[g]! *= factor
    }
    return change
  }

  /** sqrt(r1 / r2) of a group, with the factors so far. */
  #imbalance(group: number): number {
    let [rows, columns] = [0, 0]
    for (let k = this.#start[group]!; k < this.#start[group + 1]!; k++) {
      const e = this.#entries[k]!
      const [row, column] = [this.#row[e]!, this.#column[e]!]
      const value = (this.#largest[e]! * this.#factor[column]!) / this.#factor[row]!
      if (row !== group) columns = value > columns ? value : columns
      else rows = value > rows ? value : rows
    }
    return Math.sqrt(rows / columns)
  }

  of(group: number): number {
    return this.#factor[this.#numbers.get(group) ?? 0]!
  }
}

async function run(model: Model, o: OptionsOf<typeof options>, ctx: PassContext): Promise<boolean> {
  const inlined = inlineFunctions(model)
  const { chosen, left, absent } = chooseLayers(model.graph, o)
  noteAbsent(absent, ctx)
  for (const { layer, reason } of left) ctx.decline(layer.name, reason)
  const scales = await channelScales(model, chosen, {
    splitClips: o.clips === 'per-channel',
    shareSums: o.sums === 'share',
  })
  const { groups, layers } = scales
  for (const layer of chosen) {
    const why = groups.whyFixed(layer)
    if (why) ctx.decline(layer.name, why)
  }
  const pairs = [...new Set(layers.values())]
    .filter((l) => groups.outputs(l) !== null || groups.inputs(l) !== null)
    .map((l) => pairsOf(l, groups))
  const balance = new Balance(pairs)
  let changed = inlined
  if (balance.round() > SETTLED) {
    for (let round = 1; round < o.rounds && balance.round() > SETTLED; round++);
    const made = applyScales(model, scales, (g) => 1 / balance.of(g))
    if (typeof made === 'string') ctx.decline(pairs[0]!.layer.name, made)
    else {
      ctx.log(`${made} layers made even with those that read them`)
      changed = true
    }
  }
  return (o.absorb && (await absorb(model, chosen, ctx))) || changed
}

async function absorb(model: Model, chosen: readonly WeightLayer[], ctx: PassContext): Promise<boolean> {
  const names = new Set(chosen.map((l) => l.name))
  const made = await absorbBiases(model, (l) => names.has(l.name))
  if (made > 0) ctx.log(`biases of ${made} layers taken over by those behind`)
  return made > 0
}

export const equalize = definePass({
  name: 'equalize',
  summary: 'Make weights of neighbouring layers alike channel by channel, where nothing but scaling lies between',
  options,
  preserves: 'numerics',
  bakes: true,
  run,
})
