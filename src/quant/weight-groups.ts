/**
 * Scales for groups of a layer's weights: each output channel has one for every `--weight-group` weights along the axis of
 * input channels, as files of language models have them (GPTQ's `groupsize`, MatMulNBits' `block_size`). 4 bits lose
 * less so, for 16 or 32 bits a group more.
 *
 * For products of matrices, tables that are looked up, and recurrent layers. Does not apply to convolutions, whose
 * channels are short sums and whose kernels take one scale a channel, nor to layers of no more inputs than a group has:
 * their channels keep one scale each.
 */
import type { WeightLayer } from '../layers/layers.ts'

/** The axis of the layer's weight that is cut into groups of this size; null where its channels keep one scale. */
export function groupedAxis(
  { slot, tensor, inputAxis, outputAxis }: WeightLayer,
  size: number | undefined,
): number | null {
  if (!size || inputAxis === null || outputAxis === null || slot.channels === 'window') return null
  return inputAxis !== outputAxis && tensor.dims[inputAxis]! > size ? inputAxis : null
}
