/**
 * Layers that the network families are written in. Every layer's node and output value have the layer's name, its
 * initializers that name with `.weight`, `.bias`, `.running_mean` or `.running_var` after it.
 *
 * Initialisation: convolutions N(0, sqrt(2 / (k k Cout / groups))) (He et al. 2015, fan-out; what DenseNet's authors use), BN
 * scale 1 and shift 0, fully connected layers U(-1/sqrt(in), 1/sqrt(in)) for weight and bias (PyTorch's default).
 */
import { bugError } from '../base/errors.ts'
import type { Rng } from '../base/rng.ts'
import { float } from '../graph/attribute.ts'
import type { Builder } from '../graph/builder.ts'
import type { Value } from '../graph/graph.ts'
import { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'

/** A feature map [N, channels, size, size], or a vector [N, channels] where size is 0. */
export interface Feature {
  readonly value: Value
  readonly channels: number
  readonly size: number
}

export interface ConvOptions {
  readonly kernel: number
  readonly stride?: number
  /** Default: keeps the size at stride 1. */
  readonly pad?: number
  readonly bias?: boolean
  /** Whether every channel has a kernel of its own; `out` must be the channels of the input. */
  readonly depthwise?: boolean
}

export interface ExciteOptions {
  readonly squeezed: number
  readonly act: 'relu' | 'swish'
  readonly gate: 'sigmoid' | 'hard-sigmoid'
}

/** The inference form; training turns it into batch statistics. epsilon and momentum are PyTorch's (1 - 0.1). */
const BN_EPSILON = 1e-5
const BN_MOMENTUM = 0.9

/** Builds the layers of a network, with their initial weights. */
export class NetworkBuilder {
  readonly model = new Model()
  readonly #b: Builder
  readonly #rng: Rng | null

  /** null: all weights that would be drawn are zero, for what asks for nothing but shapes and speed. */
  constructor(rng: Rng | null) {
    this.#b = this.model.graph.append()
    this.#rng = rng
    this.model.producerName = 'mnc'
  }

  /** The graph input, with a batch dimension left open. */
  input({ channels, size }: { channels: number; size: number }): Feature {
    const dims = ['N', channels, size, size]
    return { value: this.model.graph.addInput('input', { elem: 'float32', dims }), channels, size }
  }

  /** Declares `x` [N, classes] the network's output. */
  output(x: Feature): Model {
    x.value.setType({ elem: 'float32', dims: ['N', x.channels] })
    this.model.graph.addOutput(x.value)
    return this.model
  }

  conv(x: Feature, name: string, out: number, options: ConvOptions): Feature {
    const { kernel: k, stride = 1, pad = (k - 1) / 2, bias = false, depthwise = false } = options
    const group = depthwise ? out : 1
    const std = Math.sqrt((2 * group) / (k * k * out))
    const dims = [out, x.channels / group, k, k]
    const inputs = [x.value, this.#drawn(`${name}.weight`, dims, (rng) => rng.normal(0, std))]
    if (bias) inputs.push(this.#filled(`${name}.bias`, out, 0))
    const attributes = {
      ...{ kernel_shape: [k, k], strides: [stride, stride], pads: [pad, pad, pad, pad] },
      ...(depthwise && { group }),
    }
    const size = Math.floor((x.size + 2 * pad - k) / stride) + 1
    if (size < 1) throw bugError(`${name}: nothing is left of a ${x.size}x${x.size} feature map`)
    return { value: this.#b.op('Conv', inputs, attributes, { name }), channels: out, size }
  }

  batchNorm(x: Feature, name: string): Feature {
    const n = x.channels
    const parameters = [this.#filled(`${name}.weight`, n, 1), this.#filled(`${name}.bias`, n, 0)]
    const state = [this.#filled(`${name}.running_mean`, n, 0), this.#filled(`${name}.running_var`, n, 1)]
    const attributes = { epsilon: float(BN_EPSILON), momentum: float(BN_MOMENTUM) }
    const value = this.#b.op('BatchNormalization', [x.value, ...parameters, ...state], attributes, { name })
    return { ...x, value }
  }

  relu(x: Feature, name: string): Feature {
    return { ...x, value: this.#b.op('Relu', [x.value], {}, { name }) }
  }

  relu6(x: Feature, name: string): Feature {
    const limits = [this.#b.scalar(0), this.#b.scalar(6)]
    return { ...x, value: this.#b.op('Clip', [x.value, ...limits], {}, { name }) }
  }

  hardSwish(x: Feature, name: string): Feature {
    return { ...x, value: this.#b.op('HardSwish', [x.value], {}, { name }) }
  }

  /** x sigmoid(x), also called SiLU. */
  swish(x: Feature, name: string): Feature {
    const gate = this.#b.op('Sigmoid', [x.value], {}, { name: `${name}.gate` })
    return { ...x, value: this.#b.op('Mul', [x.value, gate], {}, { name }) }
  }

  /** Squeeze and excitation (Hu et al. 2018): x times a gate of each image's channels. */
  excite(x: Feature, at: string, { squeezed, act, gate }: ExciteOptions): Feature {
    const mean = { ...x, value: this.#b.op('GlobalAveragePool', [x.value], {}, { name: `${at}.pool` }), size: 1 }
    const inner = this.conv(mean, `${at}.squeeze`, squeezed, { kernel: 1, bias: true })
    const active = act === 'relu' ? this.relu(inner, `${at}.act`) : this.swish(inner, `${at}.act`)
    const outer = this.conv(active, `${at}.excite`, x.channels, { kernel: 1, bias: true })
    const name = `${at}.gate`
    const factor =
      gate === 'sigmoid'
        ? this.#b.op('Sigmoid', [outer.value], {}, { name })
        : this.#b.op('HardSigmoid', [outer.value], { alpha: 1 / 6, beta: 0.5 }, { name })
    return { ...x, value: this.#b.op('Mul', [x.value, factor], {}, { name: at }) }
  }

  /** The first and the second half of the channels. */
  halves(x: Feature, name: string): readonly [Feature, Feature] {
    const channels = x.channels / 2
    const parts = this.#b.ops('Split', [x.value, this.#b.ints([channels, channels])], 2, { axis: 1 }, { name })
    const [first, second] = parts.map((value) => ({ ...x, value, channels })) as [Feature, Feature]
    return [first, second]
  }

  /** Channels of two halves in turn. */
  shuffle(x: Feature, name: string): Feature {
    const { channels, size } = x
    const apart = this.#b.op('Reshape', [x.value, this.#b.ints([-1, 2, channels / 2, size, size])])
    const turned = this.#b.op('Transpose', [apart], { perm: [0, 2, 1, 3, 4] })
    return { ...x, value: this.#b.op('Reshape', [turned, this.#b.ints([-1, channels, size, size])], {}, { name }) }
  }

  /** The largest of 3x3 with a stride of 2. */
  overlappingPool(x: Feature, name: string): Feature {
    const attributes = { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] }
    const value = this.#b.op('MaxPool', [x.value], attributes, { name })
    return { ...x, value, size: Math.floor((x.size - 1) / 2) + 1 }
  }

  add(x: Feature, y: Feature, name: string): Feature {
    return { ...x, value: this.#b.op('Add', [x.value, y.value], {}, { name }) }
  }

  concat(xs: readonly Feature[], name: string): Feature {
    const [first] = xs
    if (!first) throw bugError(`${name}: nothing to concatenate`)
    const inputs = xs.map((x) => x.value)
    const channels = xs.reduce((n, x) => n + x.channels, 0)
    return { value: this.#b.op('Concat', inputs, { axis: 1 }, { name }), channels, size: first.size }
  }

  /** Non-overlapping 2x2 pooling. */
  pool(x: Feature, name: string, op: 'AveragePool' | 'MaxPool'): Feature {
    const value = this.#b.op(op, [x.value], { kernel_shape: [2, 2], strides: [2, 2] }, { name })
    return { value, channels: x.channels, size: Math.floor(x.size / 2) }
  }

  /** Every second row and column, with zero channels before and after to make `out` of them. */
  slicePad(x: Feature, name: string, out: number): Feature {
    const ints = (v: readonly number[]): Value => this.#b.ints(v)
    const slice = [x.value, ints([0, 0]), ints([x.size, x.size]), ints([2, 3]), ints([2, 2])]
    const sliced = this.#b.op('Slice', slice, {}, { name: `${name}.slice` })
    const front = Math.floor((out - x.channels) / 2)
    const pads = ints([0, front, 0, 0, 0, out - x.channels - front, 0, 0])
    const value = this.#b.op('Pad', [sliced, pads], { mode: 'constant' }, { name })
    return { value, channels: out, size: Math.ceil(x.size / 2) }
  }

  globalAveragePool(x: Feature, name: string): Feature {
    return this.flatten({ ...x, value: this.#b.op('GlobalAveragePool', [x.value], {}, { name }), size: 1 }, 'flatten')
  }

  flatten(x: Feature, name: string): Feature {
    const value = this.#b.op('Flatten', [x.value], { axis: 1 }, { name })
    return { value, channels: x.channels * x.size * x.size, size: 0 }
  }

  /** x [N, in] times weight [out, in] transposed, plus bias. `output`: the value's name where it is not the layer's. */
  linear(x: Feature, name: string, out: number, output = name): Feature {
    const limit = 1 / Math.sqrt(x.channels)
    const draw = (rng: Rng): number => rng.uniform(-limit, limit)
    const inputs = [
      x.value,
      this.#drawn(`${name}.weight`, [out, x.channels], draw),
      this.#drawn(`${name}.bias`, [out], draw),
    ]
    const node = this.#b.node({ op: 'Gemm', name, inputs, outputs: [output], attributes: { transB: 1 } })
    return { value: node.output, channels: out, size: 0 }
  }

  #drawn(name: string, dims: readonly number[], draw: (rng: Rng) => number): Value {
    const values = new Float32Array(dims.reduce((a, b) => a * b, 1))
    const rng = this.#rng
    if (rng) for (let i = 0; i < values.length; i++) values[i] = draw(rng)
    return this.#b.initializer(name, Tensor.float32(dims, values))
  }

  #filled(name: string, n: number, value: number): Value {
    return this.#b.initializer(name, Tensor.float32([n], new Float32Array(n).fill(value)))
  }
}
