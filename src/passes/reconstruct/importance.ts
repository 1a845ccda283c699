/**
 * How much the outputs of the network depend on each number that a block gives: the diagonal of the Fisher information by
 * which BRECQ (Li et al. 2021, arXiv:2102.05426, section 3.2) weighs the error of a block, here that of the squared distance of
 * the float network's outputs y, which needs no labels. With J the derivatives of y with respect to what the block gives,
 *
 *   w = E[g^2] over samples,   g = J' e,   e of +1 and -1 at random, so that E[g g'] = J' J
 *
 * A block's weights have mean 1. Their number does not grow with the data. One backward run of the whole network for each batch.
 */
import { Rng } from '../../base/rng.ts'
import { cloneModel } from '../../graph/clone.ts'
import type { Model } from '../../graph/model.ts'
import { Tensor } from '../../graph/tensor.ts'
import { elementCount } from '../../graph/types.ts'
import { ortExecutor } from '../../runtime/ort/ort.ts'
import { differentiate, requireGradients } from '../autodiff.ts'
import { removeDead } from '../eliminate-dead.ts'
import { lowerCostly } from '../lower-costly.ts'
import { settleShapes } from '../shapes/settle-shapes.ts'
import type { Batch, Importance } from './block-data.ts'

/** Batches that are enough to tell. */
const ENOUGH = 8

/**
 * By name of the exit. `entries`: names of the values that `batches` are fed to. Exits that no float output depends on are
 * absent. A model error where a node has no gradient.
 */
export async function importanceOf(
  float: Model,
  exits: readonly string[],
  entries: readonly string[],
  batches: readonly Batch[],
  seed: number,
): Promise<ReadonlyMap<string, Importance>> {
  const model = cloneModel(float)
  const { graph } = model
  entries.forEach((name, i) => {
    const { type, dims } = batches[0]![i]!
    graph.find(name)!.setType({ elem: type, dims })
  })
  await settleShapes(model)
  const outputs = graph.outputs.filter((v) => v.type?.elem === 'float32')
  const wanted = exits.flatMap((name) => graph.find(name) ?? [])
  const signs = new Map(outputs.map((v, i) => [v, graph.addInput(`importance/sign${i}`, v.type)]))
  requireGradients(graph, wanted, outputs)
  const gradients = differentiate(model, signs, wanted)
  lowerCostly(graph)
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  const names = new Map<string, string>()
  for (const [v, g] of gradients) {
    const b = graph.append()
    const square = b.op('Mul', [g, g], {}, { type: v.type })
    const [, ...own] = v.dims
    const mean = b.op('ReduceMean', [square, b.ints([0])], { keepdims: 0 }, { type: { elem: 'float32', dims: own } })
    graph.addOutput(mean)
    names.set(v.name, mean.name)
  }
  removeDead(graph)
  const session = await ortExecutor().load(model, { step: true })
  const sums = new Map<string, Float32Array>()
  try {
    const rng = new Rng(seed, SIGNS)
    for (const batch of batches.slice(0, ENOUGH)) {
      const feeds = Object.fromEntries(entries.map((name, i) => [name, batch[i]!]))
      for (const [v, sign] of signs) feeds[sign.name] = randomSigns(v.dims, rng)
      const known = Object.entries(feeds).filter(([name]) => session.inputNames.includes(name))
      const out = await session.run(Object.fromEntries(known))
      for (const [exit, name] of names) {
        const more = out[name]!.toFloat32()
        const sum = sums.get(exit)
        if (sum)
          more.forEach((x, i) => {
            sum[i]! += x
          })
        else sums.set(exit, more.slice())
      }
    }
  } finally {
    await session.dispose()
  }
  return new Map(
    [...sums].flatMap(([exit, sum]) => {
      const mean = sum.reduce((a, x) => a + x, 0) / sum.length
      return mean > 0 ? [[exit, sum.map((x) => x / mean)] as const] : []
    }),
  )
}

/** Key of the random signs. */
const SIGNS = 0x5167

function randomSigns(dims: readonly number[], rng: Rng): Tensor {
  const signs = Float32Array.from({ length: elementCount(dims) }, () => (rng.chance(0.5) ? 1 : -1))
  return Tensor.float32(dims, signs)
}
