/**
 * The position in the input that each output of a Resize stands for along one axis, as ONNX defines it for
 * `coordinate_transformation_mode`. Rounded to single precision after each operation like onnxruntime's, so that nearest
 * rounds the same way and weights are those that it used: on a line of millions of elements rounding decides them.
 * One description serves numbers and graphs.
 */
import type { Node } from '../../graph/graph.ts'
import { unsupportedNode } from './define-op.ts'

export interface AxisMap {
  readonly size: number
  readonly out: number
  readonly scale: number
  /** Region read, as fractions of the axis (tf_crop_and_resize). */
  readonly roi: readonly number[]
}

/** Single-precision arithmetic on numbers, or on values of a graph. */
export type Arithmetic<T> = (op: 'Add' | 'Sub' | 'Mul' | 'Div', a: T | number, b: T | number) => T

const f = Math.fround

const onNumbers: Arithmetic<number> = (op, a, b) => {
  if (op === 'Add') return f(f(a) + f(b))
  if (op === 'Sub') return f(f(a) - f(b))
  return op === 'Mul' ? f(f(a) * f(b)) : f(f(a) / f(b))
}

/** The position in the input that output position `o` stands for. */
export const original = (node: Node, o: number, map: AxisMap): number => position(onNumbers, node, f(o), map)

export function position<T>(calc: Arithmetic<T>, node: Node, o: T, { size, out, scale, roi }: AxisMap): T {
  const mode = node.string('coordinate_transformation_mode', 'half_pixel')
  const constant = (value: number): T => calc('Add', calc('Mul', o, 0), value)
  const halfPixel = (): T => calc('Sub', calc('Div', calc('Add', o, 0.5), scale), 0.5)
  switch (mode) {
    case 'half_pixel':
      return halfPixel()
    case 'half_pixel_symmetric': {
      // the output is centred over the input when scale * size is not whole
      const adjustment = f(out / f(f(scale) * size))
      return calc('Add', f((size / 2) * (1 - adjustment)), halfPixel())
    }
    case 'pytorch_half_pixel':
      return out > 1 ? halfPixel() : constant(0)
    case 'align_corners':
      return out === 1 ? constant(0) : calc('Div', calc('Mul', o, size - 1), out - 1)
    case 'asymmetric':
      return calc('Div', o, scale)
    case 'tf_crop_and_resize': {
      const [start, end] = [roi[0]!, roi[1]!]
      if (out === 1) return constant(0.5 * (start + end) * (size - 1))
      const across = calc('Div', calc('Mul', calc('Mul', o, f(end - start)), size - 1), out - 1)
      return calc('Add', f(start * (size - 1)), across)
    }
    default:
      throw unsupportedNode(node, `no gradient: coordinate_transformation_mode '${mode}'`)
  }
}
