/**
 * Measures the running statistics of BatchNormalization anew on calibration data: mean and variance of what each node
 * gets over all of the data, in inference form, one node after the other in graph order, each on inputs computed with
 * those before already measured. For networks whose weights have changed since the statistics were collected (pruned,
 * rounded, converted, of other data): Wu and Johnson, Rethinking "Batch" in BatchNorm, arXiv:2105.07576, section 3
 * (PreciseBN), who average over batches in training form instead. Unlike `mnc bn-update` it takes inputs of any kind and
 * does not depend on a batch size, nor on augmentation.
 *
 * It changes what the float network computes, so it goes before whatever compares with that, and before `fold-bn`. Statistics
 * that agree with the data to a thousandth of the deviation stay. Does not apply, and says so, to training form (infer-bn),
 * to computed statistics, and where activations have been quantised already.
 */
import { modelError } from '../base/errors.ts'
import type { Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { elementTypes } from '../graph/types.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import { dropConstant } from '../layers/remove-unused.ts'
import { isChannelNorm, isInBatchMode } from '../ops/facts.ts'
import { findOp } from '../ops/index.ts'
import { constantOf } from '../ops/support/constant-of.ts'
import { definePass, type PassContext } from '../pass-manager/define-pass.ts'
import { refuseCalibrated } from '../pass-manager/pass-order.ts'
import { LayerWalk, type WalkSite } from '../quant/layer-walk.ts'
import { inlineFunctions } from './inline-functions.ts'

/** Of the standard deviation: differences below are those of float arithmetic. */
const AGREES = 1e-3

interface Norm {
  readonly node: Node
  readonly mean: Float64Array
  readonly variance: Float64Array
}

/** Positions of the running mean and variance. */
const stateOf = (n: Node): readonly number[] => findOp(n)!.state!

function normsOf(model: Model, ctx: PassContext): Norm[] {
  return [...model.graph.nodes()].flatMap((node): Norm[] => {
    if (!isChannelNorm(node)) return []
    const [mean, variance] = stateOf(node).map((i) => constantOf(node.inputs[i]))
    const why = isInBatchMode(node)
      ? 'it is in training form: infer-bn first'
      : mean && variance
        ? null
        : 'its statistics are computed'
    if (why) ctx.decline(node.id, why)
    return why || !mean || !variance
      ? []
      : [{ node, mean: Float64Array.from(mean.toNumbers()), variance: Float64Array.from(variance.toNumbers()) }]
  })
}

/** Means of d = x - running mean and of d^2, by sample and channel. */
function addProbe({ graph, here }: WalkSite, { node, mean }: Norm): { held: Value[]; first: string; second: string } {
  const b = graph.append()
  const channels = mean.length
  const x = b.op('Cast', [here(node.input(0))], { to: elementTypes.float32.code })
  const flat = b.op('Reshape', [x, b.ints([0, channels, -1])])
  const old = b.initializer('old_mean', Tensor.float32([channels, 1], Float32Array.from(mean)))
  const d = b.op('Sub', [flat, old])
  const square = b.op('Mul', [d, d])
  const [first, second] = [d, square].map((v) => {
    const y = b.op('GlobalAveragePool', [v])
    graph.addOutput(y)
    return y.name
  })
  return { held: [x, flat, d, square], first: first!, second: second! }
}

interface Measured {
  readonly mean: Float64Array
  readonly variance: Float64Array
}

async function measure(walk: LayerWalk, norm: Norm): Promise<Measured> {
  const channels = norm.mean.length
  const sums = [new Float64Array(channels), new Float64Array(channels)] as const
  let names = { first: '', second: '' }
  let samples = 0
  const probe = (site: WalkSite): Value[] => {
    const made = addProbe(site, norm)
    names = made
    return made.held
  }
  await walk.step(norm.node, probe, ({ out, size, count }) => {
    const both = [out[names.first]!, out[names.second]!].map((t) => t.toFloat32())
    // a last batch that is filled up with copies
    const rows = Math.min(count, size, both[0]!.length / channels)
    samples += rows
    for (const [k, values] of both.entries())
      for (let i = 0; i < rows * channels; i++) sums[k]![i % channels]! += values[i]!
  })
  const shift = sums[0].map((s) => s / samples)
  const mean = shift.map((s, c) => norm.mean[c]! + s)
  const squares = sums[1].map((s) => s / samples)
  const variance = squares.map((square, c) => Math.max(0, square - shift[c]! ** 2))
  if (![...mean, ...variance].every(Number.isFinite))
    throw modelError('not-finite', `inputs of '${norm.node.id}' are not finite on the calibration data`, {
      next: 'check the preprocessing (--mean --std --scale) and the model',
    })
  return { mean, variance }
}

const agrees = ({ mean, variance }: Norm, now: Measured): boolean =>
  mean.every((m, c) => {
    const deviation = Math.sqrt(now.variance[c]!)
    const least = Number.EPSILON ** 0.5 * Math.abs(m)
    return (
      Math.abs(m - now.mean[c]!) <= AGREES * deviation + least &&
      Math.abs(variance[c]! - now.variance[c]!) <= 2 * AGREES * now.variance[c]! + least * least
    )
  })

function setStatistics(node: Node, { mean, variance }: Measured): void {
  for (const [k, values] of [mean, variance].entries()) {
    const input = stateOf(node)[k]!
    const old = node.input(input)
    const { type, dims } = constantOf(old)!
    node.setInput(input, node.graph.addInitializer(old.name, Tensor.from(type, dims, values)))
    dropConstant(old)
  }
}

export const reestimateBn = definePass({
  name: 'reestimate-bn',
  summary: 'Measure the statistics of BatchNormalization anew on data, layer after layer',
  options: finiteOptions,
  preserves: 'interface',
  bakes: true,
  data: 'required',
  async run(model, o, ctx) {
    const inlined = inlineFunctions(model)
    const norms = normsOf(model, ctx)
    if (norms.length === 0) return inlined
    refuseCalibrated(
      model.graph,
      norms.map((n) => n.node),
      'reestimate-bn',
    )
    const probes = norms.map((n) => (site: WalkSite) => addProbe(site, n).held)
    const walk = new LayerWalk(model, ctx.calibration!, probes, { reference: null, ...o })
    let changed = 0
    for (const [i, norm] of norms.entries()) {
      ctx.onProgress?.(i, norms.length)
      const now = await measure(walk, norm)
      if (agrees(norm, now)) continue
      setStatistics(norm.node, now)
      changed++
    }
    ctx.log(`${changed} of ${norms.length} normalisations have other statistics now`)
    return changed > 0 || inlined
  },
})
