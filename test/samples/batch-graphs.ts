/** Graphs that take their samples in different ways, each with its result for one sample alone, computed by the caller. */
import { Rng } from '../../src/base/rng.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import type { Dim } from '../../src/graph/types.ts'

export const WIDTH = 6
export const CLASSES = 3

export function noise(dims: readonly number[], ...keys: number[]): Tensor {
  const rng = new Rng(7, ...keys)
  const size = dims.reduce((p, d) => p * d, 1)
  return Tensor.float32(
    dims,
    Float32Array.from({ length: size }, () => rng.normal()),
  )
}

/** x [first, 6], through `reshape` where given, to scores [.., 3]. */
export function classifier(first: Dim, reshape?: readonly number[]): Model {
  const model = new Model(new Graph('classifier'))
  const x = model.graph.addInput('x', { elem: 'float32', dims: [first, WIDTH] })
  const b = model.graph.append()
  const seen = reshape ? b.op('Reshape', [x, b.ints(reshape)]) : x
  const weight = b.initializer('w', noise([WIDTH, CLASSES]))
  const type = { elem: 'float32', dims: [reshape ? null : first, CLASSES] } as const
  model.graph.addOutput(b.op('MatMul', [seen, weight], {}, { name: 'y', type }))
  return model
}

/** Images [first, 1, side, side] to scores, flattened by a Reshape to [baked, -1] where that is given. */
export function imageClassifier(first: Dim, side: number, classes: number, baked?: number): Model {
  const model = new Model(new Graph('images'))
  const x = model.graph.addInput('x', { elem: 'float32', dims: [first, 1, side, side] })
  const b = model.graph.append()
  const flat =
    baked === undefined
      ? b.op('Flatten', [x])
      : b.op('Reshape', [x, b.ints([baked, side * side])], {}, { name: 'flat' })
  const weight = b.initializer('w', noise([side * side, classes], side))
  const hidden = b.op('MatMul', [flat, weight], {}, { name: 'y' })
  hidden.setType({ elem: 'float32', dims: [baked ?? first, classes] })
  model.graph.addOutput(hidden)
  return model
}

/** A softmax over all samples at once: each depends on the others. */
export function mixing(): Model {
  const model = new Model(new Graph('mixing'))
  const x = model.graph.addInput('x', { elem: 'float32', dims: ['N', WIDTH] })
  const b = model.graph.append()
  const all = b.op('Softmax', [b.op('Reshape', [x, b.ints([1, -1])])])
  model.graph.addOutput(b.op('Reshape', [all, b.ints([-1, WIDTH])], {}, { name: 'y' }))
  return model
}

/** Boxes of all samples behind each other: [3 N, 2], or [2, 3 N] where they lie across each other. */
export function boxes(first: Dim, across = false): Model {
  const model = new Model(new Graph('boxes'))
  const x = model.graph.addInput('x', { elem: 'float32', dims: [first, WIDTH] })
  const b = model.graph.append()
  const rows = b.op('Reshape', [b.op('Tanh', [x]), b.ints([-1, 2])], {}, { name: 'rows' })
  const y = across ? b.op('Transpose', [rows], { perm: [1, 0] }, { name: 'y' }) : rows
  y.setType({ elem: 'float32', dims: [null, null] })
  model.graph.addOutput(y)
  return model
}

/** x [T, N, F] or [N, T, F] (layout 1) through an RNN: Y and the last state. */
export function recurrent(dims: readonly Dim[]): Model {
  const model = new Model(new Graph('recurrent'))
  const x = model.graph.addInput('x', { elem: 'float32', dims })
  const b = model.graph.append()
  const [F, H] = [dims[2] as number, 4]
  const weights = [b.initializer('w', noise([1, H, F])), b.initializer('r', noise([1, H, H], 1))]
  const [y, last] = b.ops('RNN', [x, ...weights], 2, { hidden_size: H })
  for (const v of [y!, last!]) {
    v.setType({ elem: 'float32', dims: Array<null>(v === y ? 4 : 3).fill(null) })
    model.graph.addOutput(v)
  }
  return model
}

/** Two inputs whose first dims have symbols of their own, a state whose batch is its second dim, and a constant output. */
export function several(symbols: readonly [string, string]): Model {
  const model = new Model(new Graph('several'))
  const { graph } = model
  const a = graph.addInput('a', { elem: 'float32', dims: [symbols[0], WIDTH] })
  const c = graph.addInput('c', { elem: 'float32', dims: [symbols[1], WIDTH] })
  const state = graph.addInput('state', { elem: 'float32', dims: [2, symbols[0], WIDTH] })
  const b = graph.append()
  const sum = b.op('Add', [b.op('Add', [a, c]), b.op('ReduceSum', [state, b.ints([0])], { keepdims: 0 })])
  const next = b.op('Add', [state, b.op('Unsqueeze', [sum, b.ints([0])])], {}, { name: 'next' })
  const anchors = b.op('Identity', [b.initializer('table', noise([5, 2]))], {}, { name: 'anchors' })
  sum.setType({ elem: 'float32', dims: [symbols[0], WIDTH] })
  next.setType({ elem: 'float32', dims: [2, symbols[0], WIDTH] })
  anchors.setType({ elem: 'float32', dims: [5, 2] })
  for (const v of [sum, next, anchors]) graph.addOutput(v)
  return model
}

/** The mean over the batch: no output has one. */
export function average(): Model {
  const model = new Model(new Graph('average'))
  const x = model.graph.addInput('x', { elem: 'float32', dims: ['N', WIDTH] })
  const b = model.graph.append()
  const type = { elem: 'float32', dims: [WIDTH] } as const
  model.graph.addOutput(b.op('ReduceMean', [x, b.ints([0])], { keepdims: 0 }, { name: 'y', type }))
  return model
}
