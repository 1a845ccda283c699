/**
 * The values at the entries of a block, of all batches: in the quantised network, with everything before it reconstructed, and in
 * the float one. They are carried on from block to block, so that no layer is computed twice for them; memory does not grow with the data beyond a limit.
 */
import type { Rng } from '../../base/rng.ts'
import { Tensor } from '../../graph/tensor.ts'
import { ortExecutor } from '../../runtime/ort/ort.ts'
import type { BlockModel } from './block-model.ts'

/** As the graph is written, not by integer kernels; weights are rounded once, at load. */
const FLOAT_KERNELS = { config: { 'session.disable_quant_qdq': '1' } } as const

/** One tensor for each entry or exit. */
export type Batch = readonly Tensor[]

/** Of the numbers of one sample at an exit; they have mean 1. */
export type Importance = Float32Array

/** Of the outputs of one block, in one network. */
const KEPT_BYTES = 2 ** 28

/** What the block gives for each batch, in the order of its outputs; only of the first ones where all take too much memory. */
export async function outputsOf(block: BlockModel, batches: readonly Batch[]): Promise<Batch[]> {
  const session = await ortExecutor().load(block.model, FLOAT_KERNELS)
  try {
    const all: Batch[] = []
    let bytes = 0
    for (const batch of batches) {
      const feeds = Object.fromEntries(
        block.inputs.flatMap((name, i) => (session.inputNames.includes(name) ? [[name, batch[i]!]] : [])),
      )
      const out = await session.run(feeds)
      const given = block.outputs.map((name) => out[name]!)
      all.push(given)
      for (const t of given) bytes += t.byteLength
      if (bytes > KEPT_BYTES) break
    }
    return all
  } finally {
    await session.dispose()
  }
}

/** Variance of all numbers of one exit; 1 where they do not vary. */
export function varianceOf(batches: readonly Batch[], exit: number): number {
  let [sum, squares, count] = [0, 0, 0]
  for (const batch of batches) {
    const x = batch[exit]!.toFloat32()
    for (let i = 0; i < x.length; i++) {
      sum += x[i]!
      squares += x[i]! * x[i]!
    }
    count += x.length
  }
  const variance = squares / count - (sum / count) ** 2
  return variance > 1e-12 * (squares / count) ? variance : 1
}

/** Sum over exits of the squared error as a share of the variance; `importance`: of the numbers of a sample, by exit. */
export function errorOf(
  given: readonly Batch[],
  wanted: readonly Batch[],
  importance: readonly (Importance | null)[],
): number {
  let total = 0
  for (let k = 0; k < wanted[0]!.length; k++) {
    let [sum, count] = [0, 0]
    const weight = importance[k]
    for (const [i, batch] of wanted.entries()) {
      const [y, t] = [given[i]![k]!.toFloat32(), batch[k]!.toFloat32()]
      for (let j = 0; j < t.length; j++) sum += (weight ? weight[j % weight.length]! : 1) * (y[j]! - t[j]!) ** 2
      count += t.length
    }
    total += sum / count / varianceOf(wanted, k)
  }
  return total
}

/** Number by number, the float network's with the probability `drop` (QDrop), else the quantised one's. */
export function mixed(quantised: Batch, float: Batch, drop: number, rng: Rng): Batch {
  if (drop === 0) return quantised
  return quantised.map((q, k) => {
    if (q.type !== 'float32') return q
    const [a, b] = [q.toFloat32(), float[k]!.toFloat32()]
    const out = new Float32Array(a.length)
    const threshold = Math.round(drop * 256)
    for (let i = 0; i < out.length; i += 4) {
      const bits = rng.next32()
      for (let k = 0; k < 4 && i + k < out.length; k++)
        out[i + k] = ((bits >>> (8 * k)) & 255) < threshold ? b[i + k]! : a[i + k]!
    }
    return Tensor.float32(q.dims, out)
  })
}
