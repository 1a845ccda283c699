/** What the gradients of Conv and ConvTranspose need to know of a convolution's sizes. */
import type { Node } from '../../graph/graph.ts'
import { type SlidingWindow, slidingWindow } from '../../graph/sliding-window.ts'

export interface Geometry extends SlidingWindow {
  readonly n: number
  readonly cin: number
  readonly cout: number
  readonly group: number
}

/** Of a Conv node with known shapes, auto_pad resolved. */
export function geometryOf(node: Node): Geometry {
  const [x, w, y] = [node.input(0).dims, node.input(1).dims, node.output.dims]
  const window = slidingWindow(node, w.slice(2), x.slice(2), y.slice(2))
  return { n: x[0]!, cin: x[1]!, cout: w[0]!, group: node.int('group', 1), ...window }
}
