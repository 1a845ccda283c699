/** Layers of LSTM with seeded weights over a sequence of numbers, and scores of classes from the last state. */
import { Rng } from '../src/base/rng.ts'
import { Graph } from '../src/graph/graph.ts'
import { Model } from '../src/graph/model.ts'
import { Tensor } from '../src/graph/tensor.ts'
import { elementCount } from '../src/graph/types.ts'

export interface RecurrentSize {
  readonly layers: number
  readonly width: number
  readonly length: number
  readonly inputs: number
}

export function recurrent({ layers, width, length, inputs }: RecurrentSize, classes: number, seed: number): Model {
  const graph = new Graph('recurrent')
  const rng = new Rng(seed)
  const b = graph.append()
  const drawn = (name: string, dims: readonly number[]) => {
    const values = Float32Array.from({ length: elementCount(dims) }, () => rng.normal(0, 1 / Math.sqrt(width)))
    return b.initializer(name, Tensor.float32(dims, values))
  }
  const rows = graph.addInput('rows', { elem: 'float32', dims: ['batch', length, inputs] })
  let x = b.op('Transpose', [rows], { perm: [1, 0, 2] })
  for (let i = 0; i < layers; i++) {
    const [w, r] = [drawn(`${i}.W`, [1, 4 * width, i === 0 ? inputs : width]), drawn(`${i}.R`, [1, 4 * width, width])]
    const states = b.op('LSTM', [x, w, r, drawn(`${i}.B`, [1, 8 * width])], { hidden_size: width })
    const axes = b.initializer(`${i}.directions`, Tensor.int64([1], [1]))
    x = b.op('Squeeze', [states, axes])
  }
  const last = b.op('Gather', [x, b.initializer('last', Tensor.int64([], [length - 1]))], { axis: 0 })
  const type = { elem: 'float32', dims: ['batch', classes] } as const
  graph.addOutput(
    b.op('Gemm', [last, drawn('W', [width, classes]), drawn('B', [classes])], {}, { name: 'scores', type }),
  )
  return new Model(graph, 17)
}
