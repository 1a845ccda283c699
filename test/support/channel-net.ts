/**
 * Random convolutional networks some of whose channels are dead, with everything that reads and makes channels: residual
 * sums, Concat, depthwise and grouped convolutions, squeeze-and-excitation, bodies that read activations and weights,
 * shared weights, weights that are outputs, float16 inside, products of rank 3, arithmetic with shapes, integer inputs,
 * outputs of any magnitude.
 */
import { Rng } from '../../src/base/rng.ts'
import { graphAttribute } from '../../src/graph/attribute.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { elementTypes } from '../../src/graph/types.ts'

const SIDE = 6

interface Map2d {
  readonly value: Value
  readonly channels: number
}

/** `used` names what the network consists of. */
export class ChannelNet {
  readonly rng: Rng
  readonly graph = new Graph('random')
  readonly b = this.graph.append()
  readonly maps: Map2d[] = []
  readonly used = new Set<string>()
  #weights: { value: Value; inputs: number; outputs: number }[] = []

  constructor(seed: number) {
    this.rng = new Rng(seed)
  }

  below(n: number): number {
    return Math.floor(this.rng.uniform(0, n))
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!
  }

  constant(name: string, dims: readonly number[], low = -1, high = 1): Value {
    const values = Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => this.rng.uniform(low, high))
    return this.graph.addInitializer(name, Tensor.float32(dims, values))
  }

  /** [outputs, ...]: some output channels are dead, now and then all of them. */
  weight(dims: readonly number[], axis = 0): Value {
    const w = this.constant('w', dims, -0.5, 0.5)
    const share = this.pick([0, 0.3, 0.6, 0.6, 1])
    const values = Float32Array.from(w.constant!.toFloat32())
    const inner = dims.slice(axis + 1).reduce((a, b) => a * b, 1)
    const dead = Array.from({ length: dims[axis]! }, () => this.rng.chance(share))
    for (let i = 0; i < values.length; i++) if (dead[Math.floor(i / inner) % dims[axis]!]) values[i] = 0
    w.setConstant(Tensor.float32(dims, values))
    return w
  }

  bias(n: number): Value | null {
    return this.rng.chance(0.6) ? this.constant('b', [n]) : null
  }

  add(value: Value, channels: number): Map2d {
    const map = { value, channels }
    this.maps.push(map)
    return map
  }

  conv(x: Map2d, outputs: number): Map2d {
    const k = this.pick([1, 3])
    const known = this.#weights.filter(
      (w) => w.inputs === x.channels && w.outputs === outputs && w.value.constant!.dims[2] === k,
    )
    let w: Value
    if (known.length > 0 && this.rng.chance(0.15)) {
      w = this.pick(known).value
      this.used.add('shared weight')
    } else {
      w = this.weight([outputs, x.channels, k, k])
      this.#weights.push({ value: w, inputs: x.channels, outputs })
    }
    const pads = k === 3 ? [1, 1, 1, 1] : [0, 0, 0, 0]
    return this.add(this.b.op('Conv', [x.value, w, this.bias(outputs)], { pads }, { name: 'conv' }), outputs)
  }

  readonly steps: Readonly<Record<string, (x: Map2d) => Map2d | null>> = {
    conv: (x) => this.conv(x, this.pick([4, 6, 8])),
    convRelu: (x) => {
      const y = this.conv(x, this.pick([4, 6, 8]))
      return this.add(this.b.op('Relu', [y.value], {}, { name: 'relu' }), y.channels)
    },
    activation: (x) => this.add(this.b.op(this.pick(['Relu', 'Sigmoid', 'HardSwish', 'Tanh']), [x.value]), x.channels),
    normalise: (x) => {
      const parameters = ['gamma', 'beta', 'mean', 'var'].map((n) =>
        this.constant(n, [x.channels], n === 'var' ? 0.5 : -1, 1.5),
      )
      return this.add(this.b.op('BatchNormalization', [x.value, ...parameters], {}, { name: 'bn' }), x.channels)
    },
    sum: (x) => {
      const other = this.pick(this.maps.filter((m) => m.channels === x.channels))
      return this.add(this.b.op(this.pick(['Add', 'Add', 'Mul', 'Max']), [x.value, other.value]), x.channels)
    },
    residual: (x) => {
      const y = this.conv(this.conv(x, this.pick([4, 8])), x.channels)
      return this.add(this.b.op('Add', [x.value, y.value], {}, { name: 'sum' }), x.channels)
    },
    scale: (x) => this.add(this.b.op('Mul', [x.value, this.constant('scale', [x.channels, 1, 1])]), x.channels),
    concat: (x) => {
      const other = this.pick(this.maps)
      return this.add(this.b.op('Concat', [x.value, other.value], { axis: 1 }), x.channels + other.channels)
    },
    depthwise: (x) => {
      const m = this.pick([1, 1, 2])
      const w = this.weight([x.channels * m, 1, 3, 3])
      const y = this.b.op('Conv', [x.value, w, this.bias(x.channels * m)], { group: x.channels, pads: [1, 1, 1, 1] })
      return this.add(y, x.channels * m)
    },
    grouped: (x) => {
      if (x.channels % 2) return null
      const w = this.weight([x.channels, x.channels / 2, 1, 1])
      return this.add(this.b.op('Conv', [x.value, w], { group: 2 }), x.channels)
    },
    transposed: (x) => {
      const w = this.weight([x.channels, 4, 1, 1], 1)
      return this.add(this.b.op('ConvTranspose', [x.value, w, this.bias(4)]), 4)
    },
    pool: (x) => {
      const include = this.pick([0, 1])
      const shape = { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }
      const y = this.rng.chance(0.5)
        ? this.b.op('MaxPool', [x.value], shape)
        : this.b.op('AveragePool', [x.value], { ...shape, count_include_pad: include })
      return this.add(y, x.channels)
    },
    excite: (x) => {
      const s = this.b.op('GlobalAveragePool', [x.value])
      const inner = this.b.op('Relu', [this.b.op('Conv', [s, this.weight([4, x.channels, 1, 1]), this.bias(4)])])
      const gate = this.b.op('Sigmoid', [this.b.op('Conv', [inner, this.weight([x.channels, 4, 1, 1])])])
      return this.add(this.b.op('Mul', [x.value, gate]), x.channels)
    },
    body: (x) => {
      const weight = this.pick(this.#weights)?.value
      const condition = this.b.op('Greater', [this.b.op('ReduceMax', [x.value], { keepdims: 0 }), this.b.scalar(1)])
      const branch = (name: string, make: (body: Graph) => Value): Graph => {
        const body = new Graph(name, this.graph)
        body.addOutput(make(body))
        return body
      }
      const type = { elem: 'float32', dims: ['N', x.channels, SIDE, SIDE] } as const
      const plain = branch('plain', (g) => g.append().op('Identity', [x.value], {}, { name: 'plain_y', type }))
      const busy = branch('busy', (g) => {
        const by = weight ? g.append().op('ReduceMax', [weight], { keepdims: 0 }, { name: 'by' }) : g.append().scalar(2)
        return g.append().op('Mul', [x.value, by], {}, { name: 'busy_y', type })
      })
      const attributes = { then_branch: graphAttribute(busy), else_branch: graphAttribute(plain) }
      return this.add(this.b.op('If', [condition], attributes, { type }), x.channels)
    },
    loop: (x) => {
      const body = new Graph('body', this.graph)
      body.addInput('round', { elem: 'int64', dims: [] })
      const go = body.addInput('go', { elem: 'bool', dims: [] })
      const type = { elem: 'float32', dims: ['N', x.channels, SIDE, SIDE] } as const
      const state = body.addInput('state', type)
      body.addOutput(body.append().op('Identity', [go], {}, { name: 'on', type: go.type! }))
      // reads a map from outside
      body.addOutput(body.append().op('Add', [state, x.value], {}, { name: 'next', type }))
      const zero = this.b.op('Mul', [x.value, this.b.scalar(0)])
      const trips = this.graph.addInitializer('trips', Tensor.from('int64', [], [2]))
      const yes = this.graph.addInitializer('yes', Tensor.from('bool', [], [1]))
      return this.add(this.b.op('Loop', [trips, yes, zero], { body: graphAttribute(body) }, { type }), x.channels)
    },
    narrow: (x) => {
      const half = this.b.op('Cast', [x.value], { to: elementTypes.float16.code })
      const w = this.weight([6, x.channels, 3, 3])
      w.setConstant(w.constant!.as('float16'))
      const b = this.graph.addInitializer('half.b', this.constant('h', [6]).constant!.as('float16'))
      const y = this.b.op('Relu', [this.b.op('Conv', [half, w, b], { pads: [1, 1, 1, 1] })])
      const v = this.weight([4, 6, 1, 1])
      v.setConstant(v.constant!.as('float16'))
      const z = this.b.op('Conv', [y, v])
      return this.add(this.b.op('Cast', [z], { to: elementTypes.float32.code }), 4)
    },
    positions: (x) => {
      // [N, C, H, W] -> [N, C, P] -> [N, P, C] -> products of rank 3 -> back
      const flat = this.b.op('Reshape', [x.value, this.b.ints([0, 0, -1])])
      const rows = this.b.op('Transpose', [flat], { perm: [0, 2, 1] })
      const up = this.b.op('Add', [
        this.b.op('MatMul', [rows, this.weight([x.channels, 9], 1)]),
        this.constant('mb', [9]),
      ])
      const down = this.b.op('MatMul', [this.b.op('Relu', [up]), this.weight([9, 4], 1)])
      const back = this.b.op('Transpose', [down], { perm: [0, 2, 1] })
      return this.add(this.b.op('Reshape', [back, this.b.ints([0, 4, SIDE, SIDE])]), 4)
    },
    count: (x) => {
      const shape = this.b.op('Shape', [x.value])
      const entry = this.b.op('Gather', [
        shape,
        this.graph.addInitializer('i', Tensor.from('int64', [], [this.pick([0, 1, 1, 2])])),
      ])
      const root = this.b.op('Sqrt', [this.b.op('Cast', [entry], { to: elementTypes.float32.code })])
      return this.add(
        this.b.op('Div', [this.pick(this.maps.filter((m) => m.channels === x.channels)).value, root]),
        x.channels,
      )
    },
    shuffle: (x) => {
      if (x.channels % 2) return null
      const shape = this.b.op('Shape', [x.value])
      const at = (i: number): Value => this.b.op('Slice', [shape, this.b.ints([i]), this.b.ints([i + 1])])
      const half = this.b.op('Div', [at(1), this.b.ints([2])])
      const split = this.b.op('Concat', [at(0), this.b.ints([2]), half, at(2), at(3)], { axis: 0 })
      const turned = this.b.op('Transpose', [this.b.op('Reshape', [x.value, split])], { perm: [0, 2, 1, 3, 4] })
      return this.add(this.b.op('Reshape', [turned, shape]), x.channels)
    },
    likeShape: (x) => {
      const like = this.b.op('ConstantOfShape', [this.b.op('Shape', [x.value])], { value: Tensor.float32([1], [0.5]) })
      return this.add(this.b.op('Add', [x.value, like]), x.channels)
    },
  }

  build(length: number): Model {
    const x = this.graph.addInput('x', { elem: 'float32', dims: ['N', 4, SIDE, SIDE] })
    this.add(x, 4)
    this.conv(this.maps[0]!, 8)
    if (this.rng.chance(0.3)) {
      this.used.add('integer input')
      const ids = this.graph.addInput('ids', { elem: 'int64', dims: ['N', SIDE, SIDE] })
      const table = this.constant('table', [7, 4])
      const looked = this.b.op('Gather', [table, ids])
      this.add(this.b.op('Transpose', [looked], { perm: [0, 3, 1, 2] }), 4)
    }
    const names = Object.keys(this.steps)
    for (let i = 0; i < length; i++) {
      const name = this.rng.chance(0.4)
        ? this.pick(['convRelu', 'residual', 'normalise', 'depthwise'])
        : this.pick(names)
      const from = this.rng.chance(0.7) ? this.maps.at(-1)! : this.pick(this.maps)
      if (this.steps[name]!(from)) this.used.add(name)
    }
    this.finish()
    return new Model(this.graph, 21)
  }

  finish(): void {
    const last = this.maps.at(-1)!
    const seen = this.conv(this.rng.chance(0.8) ? last : this.pick(this.maps), 4)
    let flat: Value
    const kind = this.pick(['pool', 'flatten', 'view', 'counted'])
    this.used.add(kind)
    let width = seen.channels
    if (kind === 'pool') flat = this.b.op('Flatten', [this.b.op('GlobalAveragePool', [seen.value])])
    else {
      width *= SIDE * SIDE
      const shape = this.b.op('Shape', [seen.value])
      const batch = this.b.op('Slice', [shape, this.b.ints([0]), this.b.ints([1])])
      const c = this.b.op('Mul', [
        this.b.op('Slice', [shape, this.b.ints([1]), this.b.ints([2])]),
        this.b.ints([SIDE * SIDE]),
      ])
      const second = kind === 'view' ? this.b.ints([-1]) : c
      flat =
        kind === 'flatten'
          ? this.b.op('Flatten', [seen.value])
          : this.b.op('Reshape', [seen.value, this.b.op('Concat', [batch, second], { axis: 0 })])
    }
    const hidden = this.b.op('Gemm', [flat, this.weight([6, width]), this.bias(6)], {
      transB: 1,
      alpha: { kind: 'float', value: this.pick([1, -0.5]) },
    })
    const product = this.b.op('MatMul', [this.b.op('Relu', [hidden]), this.weight([6, 5], 1)])
    const y = this.b.op('MatMul', [product, this.constant('last', [5, 3])])
    const size = this.pick([1, 1, 1e-20, 1e-30, 1e6])
    const out = this.b.op('Mul', [y, this.b.scalar(size)], {}, { name: 'y' })
    out.setType({ elem: 'float32', dims: ['N', 3] })
    this.graph.addOutput(out)
    if (this.#weights.length > 0 && this.rng.chance(0.2)) {
      this.graph.addOutput(this.pick(this.#weights).value)
      this.used.add('weight output')
    }
    if (this.rng.chance(0.2)) {
      const { value, channels } = this.pick(this.maps.slice(1))
      if (!value.isOutput) {
        value.setType({ elem: 'float32', dims: ['N', channels, SIDE, SIDE] })
        this.graph.addOutput(value)
      }
    }
  }
}
