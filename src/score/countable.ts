/** What a count requires, and the errors that name what is missing. */
import { modelError } from '../base/errors.ts'
import type { Node, Value } from '../graph/graph.ts'
import { isStatic } from '../graph/types.ts'
import { isQuantizer, readsShape } from '../ops/facts.ts'
import { findOp, requireOp } from '../ops/index.ts'
import type { Constants } from './constants.ts'

type Known = Pick<Constants, 'has'>

/** Checks that everything a count needs is known; errors name what is not. */
export function requireKnown(nodes: Iterable<Node>, constants: Known): void {
  const shapes = new Set<Value>()
  for (const node of nodes) {
    if (node.outputs.every((v) => !v || constants.has(v))) continue
    if (isShapeArithmetic(node, shapes, constants)) for (const v of node.outputs) if (v) shapes.add(v)
    if (!isQuantizer(node) && !node.outputs.some((v) => v && shapes.has(v))) {
      if (!findOp(node) && node.subgraphs.length > 0) throw notCounted(node, 'how often its body runs is unknown')
      requireOp(node)
    }
  }
}

/** Shape, Size, and integer work on their results. */
export function isShapeArithmetic(node: Node, shapes: ReadonlySet<Value>, constants: Known): boolean {
  if (readsShape(node)) return true
  const inputs = node.inputs.filter((v) => v !== null)
  return inputs.some((v) => shapes.has(v)) && inputs.every((v) => shapes.has(v) || constants.has(v))
}

export function requireShapes(node: Node): void {
  for (const v of [...node.inputs, ...node.outputs])
    if (v && !v.constant && !isStatic(v.type?.dims ?? null) && v.type?.elem !== 'int64')
      throw modelError('unknown-shape', `the shape of '${v.name}' is unknown, so its work cannot be counted`, {
        node: node.id,
        next: "give the model's inputs fixed sizes",
      })
}

export function notCounted(node: Node, why: string): Error {
  return modelError('not-counted', `${node.label} is not counted: ${why}`, { node: node.id })
}
