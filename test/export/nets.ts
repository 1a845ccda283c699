/** Small graphs in the form that the passes leave: masks, weight and activation quantisers, BatchNormalization. */
import type { Builder } from '../../src/graph/builder.ts'
import type { Value } from '../../src/graph/graph.ts'
import { marks } from '../../src/graph/marks.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { byteLength, type ElementType } from '../../src/graph/types.ts'

/** Uniform in [-1, 1), the same for the same seed. */
export function noise(seed: number): () => number {
  let state = seed * 2654435761 + 12345
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0
    return state / 2 ** 31
  }
}

export interface NetOptions {
  readonly sparsity?: number
  /** Weight width: an INT4 quantiser, an INT8 one, or INT8 with a Clip for the others; 32 for none. */
  readonly bits?: number
  readonly activationBits?: number
  readonly signedActivations?: boolean
}

export class Net {
  readonly model = new Model()
  readonly b: Builder
  readonly options: Required<NetOptions>
  readonly random: () => number

  constructor(seed: number, options: NetOptions = {}) {
    this.b = this.model.graph.append()
    this.random = noise(seed)
    this.options = { sparsity: 0.75, bits: 4, activationBits: 4, signedActivations: false, ...options }
  }

  input(dims: readonly number[]): Value {
    return this.model.graph.addInput('x', { elem: 'float32', dims })
  }

  floats(dims: readonly number[], at: (u: number) => number = (u) => u): Tensor {
    const n = dims.reduce((a, d) => a * d, 1)
    return Tensor.float32(
      dims,
      Float32Array.from({ length: n }, () => at(this.random())),
    )
  }

  /** Latent weights -> mask -> quantiser. */
  weight(name: string, dims: readonly number[], axis: number): Value {
    const { b, options } = this
    const latent = this.floats(dims)
    let w = b.initializer(name, latent)
    if (options.sparsity > 0) {
      const mask = this.floats(dims, (u) => (Math.abs(u) < options.sparsity ? 0 : 1))
      w = b.op('Mul', [w, b.initializer(`${name}.mask`, mask)], {}, { metadata: { 'mnc.role': 'prune-mask' } })
    }
    if (options.bits === 32) return w
    const hi = 2 ** (options.bits - 1) - 1
    const scale = this.floats([dims[axis]!], (u) => (1 + 0.2 * u) / (hi + 0.7))
    return this.pair(w, b.initializer(`${name}.scale`, scale), options.bits, true, axis)
  }

  pair(x: Value, scale: Value, bits: number, signed: boolean, axis?: number): Value {
    const { b } = this
    const container: ElementType = bits === 4 ? (signed ? 'int4' : 'uint4') : signed ? 'int8' : 'uint8'
    const dims = scale.constant!.dims
    const zero = new Tensor(container, dims, new Uint8Array(byteLength(container, scale.constant!.size)))
    const z = b.initializer(`${x.name}.zero`, zero)
    const attributes = axis === undefined ? {} : { axis }
    let q = b.op('QuantizeLinear', [x, scale, z], attributes)
    if (bits !== 4 && bits !== 8) {
      const limit = (v: number): Value => b.scalar(v, container)
      q = b.op('Clip', [q, limit(signed ? -(2 ** (bits - 1)) : 0), limit(2 ** (signed ? bits - 1 : bits) - 1)])
    }
    return b.op('DequantizeLinear', [q, scale, z], attributes)
  }

  act(x: Value, step = 0.13): Value {
    const { activationBits: bits, signedActivations } = this.options
    if (bits === 32) return x
    // the guard that insert-fake-quant puts there
    const guard = this.b.op('Sum', [x], {}, { metadata: marks.role.entry('quant-guard') })
    return this.pair(guard, this.b.initializer('step', Tensor.scalar(step)), bits, signedActivations)
  }

  conv(
    x: Value,
    name: string,
    cin: number,
    cout: number,
    k: number,
    o: { group?: number; bias?: boolean; stride?: number } = {},
  ): Value {
    const group = o.group ?? 1
    const w = this.weight(name, [cout, cin / group, k, k], 0)
    const inputs = o.bias ? [x, w, this.b.initializer(`${name}.bias`, this.floats([cout]))] : [x, w]
    const pad = (k - 1) / 2
    const strides = Array(2).fill(o.stride ?? 1)
    const attributes = { kernel_shape: [k, k], pads: [pad, pad, pad, pad], strides, group }
    return this.b.op('Conv', inputs, attributes, { name: `${name}.y` })
  }

  bn(x: Value, name: string, channels: number): Value {
    const init = (part: string, at: (u: number) => number): Value =>
      this.b.initializer(`${name}.${part}`, this.floats([channels], at))
    const parts = [init('scale', (u) => 0.8 + 0.5 * u), init('bias', (u) => 0.3 * u), init('mean', (u) => 0.2 * u)]
    return this.b.op('BatchNormalization', [x, ...parts, init('var', (u) => 1 + 0.5 * u)], {}, { name: `${name}.y` })
  }

  relu(x: Value): Value {
    return this.b.op('Relu', [x])
  }

  finish(y: Value): Model {
    this.model.graph.addOutput(y)
    y.setType({ elem: 'float32', dims: null })
    return this.model
  }
}

/** Stem, a DenseNet layer (BN, ReLU, 1x1, BN, ReLU, 3x3, concatenation), a residual block, pooling, Gemm. */
export function smallNet(seed: number, options: NetOptions = {}): Model {
  const n = new Net(seed, options)
  const x = n.input([2, 3, 8, 8])
  const stem = n.conv(x, 'stem', 3, 16, 3)
  const a = n.conv(n.act(n.relu(n.bn(stem, 'bn1', 16))), 'c1', 16, 32, 1)
  const c = n.conv(n.act(n.relu(n.bn(a, 'bn2', 32))), 'c2', 32, 16, 3)
  const cat = n.b.op('Concat', [stem, c], { axis: 1 })
  const r = n.relu(n.bn(cat, 'bn3', 32))
  const d = n.bn(n.conv(n.act(r), 'c3', 32, 32, 3, { bias: true }), 'bn4', 32)
  const e = n.relu(n.b.op('Add', [d, r]))
  const g = n.relu(n.bn(n.conv(n.act(e), 'dw', 32, 32, 3, { group: 32 }), 'bn5', 32))
  const f = n.b.op('Flatten', [n.b.op('GlobalAveragePool', [g])])
  const fc = n.weight('fc', [10, 32], 0)
  return n.finish(
    n.b.op('Gemm', [f, fc, n.b.initializer('fc.bias', n.floats([10]))], { transB: 1 }, { name: 'logits' }),
  )
}
