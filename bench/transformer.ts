/** A transformer's encoder with seeded weights, for benches: embeddings, layers of attention and feed-forward, scores of tokens. */
import { Rng } from '../src/base/rng.ts'
import type { Builder } from '../src/graph/builder.ts'
import type { Value } from '../src/graph/graph.ts'
import { Graph } from '../src/graph/graph.ts'
import { Model } from '../src/graph/model.ts'
import { Tensor } from '../src/graph/tensor.ts'

export interface TransformerSize {
  readonly layers: number
  readonly width: number
  readonly heads: number
  readonly vocabulary: number
  readonly positions: number
}

/** About 20 million parameters. */
export const TWENTY_MILLION: TransformerSize = { layers: 6, width: 512, heads: 8, vocabulary: 2048, positions: 128 }

/** Pre-normalised; `ids` [batch, length] of any size up to `positions`. */
export function transformer(size: TransformerSize, seed: number): Model {
  const graph = new Graph('transformer')
  const ids = graph.addInput('ids', { elem: 'int64', dims: ['batch', 'length'] })
  const b = graph.append()
  const net = new Layers(b, size, new Rng(seed))
  let x = net.embedded(ids)
  for (let i = 0; i < size.layers; i++) x = net.layer(x, `layer${i}`)
  const scores = net.product(net.normalised(x, 'last'), 'scores', size.width, size.vocabulary)
  scores.setType({ elem: 'float32', dims: ['batch', 'length', size.vocabulary] })
  graph.addOutput(scores)
  return new Model(graph, 17)
}

/** The layers alone, over `positions` rows of numbers, and scores of classes from their mean. */
export function encoder(size: TransformerSize, classes: number, seed: number): Model {
  const graph = new Graph('encoder')
  const rows = graph.addInput('rows', { elem: 'float32', dims: ['batch', size.positions, size.width] })
  const b = graph.append()
  const net = new Layers(b, size, new Rng(seed))
  let x = rows
  for (let i = 0; i < size.layers; i++) x = net.layer(x, `layer${i}`)
  const mean = b.op('ReduceMean', [net.normalised(x, 'last')], { axes: [1], keepdims: 0 })
  const scores = net.product(mean, 'scores', size.width, classes)
  scores.setType({ elem: 'float32', dims: ['batch', classes] })
  graph.addOutput(scores)
  return new Model(graph, 17)
}

class Layers {
  constructor(
    readonly b: Builder,
    readonly size: TransformerSize,
    readonly rng: Rng,
  ) {}

  drawn(name: string, dims: readonly number[], deviation: number): Value {
    const n = dims.reduce((a, d) => a * d, 1)
    return this.b.initializer(
      name,
      Tensor.float32(
        dims,
        Float32Array.from({ length: n }, () => this.rng.normal(0, deviation)),
      ),
    )
  }

  embedded(ids: Value): Value {
    const { b, size } = this
    const tokens = b.op('Gather', [this.drawn('tokens', [size.vocabulary, size.width], 1), ids], { axis: 0 })
    const length = b.op('Shape', [ids], { start: 1, end: 2 })
    const zero = b.initializer('zero', Tensor.int64([1], [0]))
    const places = b.op('Slice', [this.drawn('places', [size.positions, size.width], 0.3), zero, length])
    return b.op('Add', [tokens, places])
  }

  normalised(x: Value, name: string): Value {
    const { b, size } = this
    const ones = b.initializer(`${name}.scale`, Tensor.float32([size.width], new Float32Array(size.width).fill(1)))
    return b.op('LayerNormalization', [x, ones, this.drawn(`${name}.shift`, [size.width], 0.02)], { axis: -1 })
  }

  product(x: Value, name: string, inputs: number, outputs: number): Value {
    const { b } = this
    const y = b.op(
      'MatMul',
      [x, this.drawn(`${name}.weight`, [inputs, outputs], 1 / Math.sqrt(inputs))],
      {},
      { name: `${name}.product` },
    )
    return b.op('Add', [y, this.drawn(`${name}.bias`, [outputs], 0.02)], {}, { name })
  }

  layer(x: Value, name: string): Value {
    const { b, size } = this
    const { width, heads } = size
    const h = this.normalised(x, `${name}.before`)
    const split = b.initializer(`${name}.split`, Tensor.int64([4], [0, 0, heads, width / heads]))
    const [q, k, v] = ['q', 'k', 'v'].map((part) => {
      const y = this.product(h, `${name}.${part}`, width, width)
      return b.op('Transpose', [b.op('Reshape', [y, split])], { perm: part === 'k' ? [0, 2, 3, 1] : [0, 2, 1, 3] })
    })
    const near = b.op('Mul', [b.op('MatMul', [q!, k!]), b.scalar(1 / Math.sqrt(width / heads))])
    const seen = b.op('MatMul', [b.op('Softmax', [near], { axis: -1 }), v!])
    const joined = b.initializer(`${name}.joined`, Tensor.int64([3], [0, 0, width]))
    const read = b.op('Reshape', [b.op('Transpose', [seen], { perm: [0, 2, 1, 3] }), joined])
    const y = b.op('Add', [x, this.product(read, `${name}.read`, width, width)])
    const wide = this.product(this.normalised(y, `${name}.between`), `${name}.wide`, width, 4 * width)
    const half = b.op('Mul', [
      b.op('Add', [b.op('Erf', [b.op('Mul', [wide, b.scalar(Math.SQRT1_2)])]), b.scalar(1)]),
      b.scalar(0.5),
    ])
    const gelu = b.op('Mul', [wide, half])
    return b.op('Add', [y, this.product(gelu, `${name}.narrow`, 4 * width, width)])
  }
}
