/**
 * Resize by nearest neighbours where each element is repeated a whole number of times, which gradients of average pools
 * are made of. Not covered: everything else that Resize can do.
 */
import { type KernelTable, NotCovered, outputSizes, range, type TfTensor, take } from './kernel.ts'

export const resizing: KernelTable = {
  Resize({ tf, node, x: [x] }) {
    const out = outputSizes(node, 2)
    const factors = [1, 1, ...x!.shape.slice(2).map((d, i) => out[i]! / d)]
    const asymmetric = node.string('coordinate_transformation_mode', 'half_pixel') === 'asymmetric'
    const floors = node.string('nearest_mode', 'round_prefer_floor') === 'floor'
    if (node.string('mode', 'nearest') !== 'nearest' || !asymmetric || !floors || !factors.every(Number.isInteger))
      throw new NotCovered('not a whole repetition of elements')
    return factors.reduce<TfTensor>((t, f, axis) => {
      if (f === 1) return t
      return take(
        tf,
        t,
        axis,
        range(t.shape[axis]! * f).map((i) => Math.floor(i / f)),
      )
    }, x!)
  },
}
