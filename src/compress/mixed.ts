/**
 * Samples that a model was trained on say little about what compressing loses: it is sure of them, and so are its copies. Mixed
 * with another one they are new to it: for two nets that were right on 98.9 % and more of theirs, mixing 8 to 2 foretold the drop on test
 * images within 0.3 points at 8 bits and at 4-bit weights. What pruning loses comes out too large (docs/compression.md).
 */
import { Tensor } from '../graph/tensor.ts'
import type { SampleSource } from './sample-source.ts'

/** Share of the sample whose label counts. */
const OWN = 0.8
/** From this accuracy on, a model is taken to know its training samples by heart. */
const BY_HEART = 0.95

export const isByHeart = (top1: number | null): boolean => top1 !== null && top1 > BY_HEART

/** `own`, with a little of `others`, the same samples in another order; inputs are floats. */
export function mixed(own: SampleSource, others: SampleSource): SampleSource {
  return {
    count: own.count,
    async *batches() {
      const other = others.batches()[Symbol.asyncIterator]()
      try {
        for await (const batch of own.batches()) {
          const { value } = await other.next()
          const feeds = Object.entries(batch.feeds).map(([name, t]) => [name, blend(t, value.feeds[name])] as const)
          yield { ...batch, feeds: Object.fromEntries(feeds) }
        }
      } finally {
        await other.return?.()
      }
    },
  }
}

function blend(own: Tensor, other: Tensor): Tensor {
  const values = other.toFloat32()
  const blended = own.toFloat32().map((x, i) => OWN * x + (1 - OWN) * values[i]!)
  return Tensor.float32(own.dims, blended).as(own.type)
}
