/** Models of opsets 1 to 6: upgraded, they compute what the standard says about the old form. onnxruntime has no kernels for it. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { diffModels } from '../../src/analysis/model-diff.ts'
import { modelInfo } from '../../src/analysis/model-info.ts'
import { Rng } from '../../src/base/rng.ts'
import { checkModels } from '../../src/check/check.ts'
import { compareLayers } from '../../src/check/check-layers.ts'
import { readModel, writeModel } from '../../src/codec/codec.ts'
import { runCommandLine } from '../../src/commands/program.ts'
import { type AttributeLike, float, floats } from '../../src/graph/attribute.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph, type Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { verifyModel } from '../../src/graph/verify.ts'
import { earlyUpgrades } from '../../src/ops/early-forms.ts'
import { upgradeModelTo } from '../../src/ops/raise-opset.ts'
import { allOperators, reformsBetween, sinceVersions } from '../../src/ops/support/schema-versions.ts'
import { upgradesOf } from '../../src/ops/upgrade.ts'
import { inferTypes } from '../../src/runtime/isolated/infer-types.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { scanSensitivity } from '../../src/sensitivity/sensitivity.ts'
import { Sink } from '../cli/sink.ts'

const product = (dims: readonly number[]): number => dims.reduce((a, b) => a * b, 1)

const randomly = (random: Rng, dims: readonly number[]): Tensor =>
  Tensor.float32(
    dims,
    Array.from({ length: product(dims) }, () => 0.5 + random.uniform()),
  )

type Attributes = Readonly<Record<string, AttributeLike>>

interface Old {
  readonly opset: number
  readonly op: string
  readonly attributes?: Attributes
  /** Data is fed; constants are initializers. */
  readonly inputs: readonly { readonly tensor: Tensor; readonly constant?: boolean; readonly unranked?: boolean }[]
  readonly outputs?: number
}

function modelOf({ opset, op, attributes = {}, inputs, outputs = 1 }: Old): Model {
  const model = new Model(new Graph('old'), opset)
  model.irVersion = 3
  const { graph } = model
  const operands = inputs.map(({ tensor, constant, unranked }, i) =>
    constant
      ? graph.addInitializer(`in${i}`, tensor)
      : graph.addInput(`in${i}`, { elem: tensor.type, dims: unranked ? null : tensor.dims }),
  )
  const names = Array.from({ length: outputs }, (_, i) => `out${i}`)
  const node = graph.append().node({ op, name: 'it', inputs: operands, outputs: names, attributes })
  for (const v of node.outputs) graph.addOutput(v!)
  return model
}

/** The outputs at opset `to`. */
async function lifted(old: Old, to: number): Promise<Tensor[]> {
  const model = modelOf(old)
  upgradeModelTo(model, to)
  verifyModel(model)
  assert.equal(model.opset, to)
  assert.deepEqual(
    model.graph.outputs.map((v) => v.name),
    Array.from({ length: old.outputs ?? 1 }, (_, i) => `out${i}`),
  )
  const session = await ortExecutor().load(model)
  const feeds = old.inputs.flatMap(({ tensor, constant }, i) => (constant ? [] : [[`in${i}`, tensor] as const]))
  const out = await session.run(Object.fromEntries(feeds))
  await session.dispose()
  return model.graph.outputs.map((v) => out[v.name]!)
}

function same(actual: Tensor, dims: readonly number[], expected: ArrayLike<number>, what: string): void {
  assert.deepEqual([...actual.dims], [...dims], what)
  const values = actual.toNumbers()
  for (let i = 0; i < expected.length; i++)
    assert.ok(Math.abs(Number(values[i]) - expected[i]!) <= 1e-5 * (1 + Math.abs(expected[i]!)), `${what}: ${i}`)
}

const TARGETS = [7, 9, 13, 21]

test('every change of an operator up to opset 7 has a step, and no step is for a version that is none', () => {
  for (const op of allOperators()) {
    const declared = upgradesOf({ op, domain: '' }).map((u) => u.to)
    for (const version of reformsBetween(op, sinceVersions(op)![0]!, 7))
      assert.ok(declared.includes(version), `${op} ${version}`)
    for (const { to } of earlyUpgrades(op)) assert.ok(sinceVersions(op)!.includes(to), `${op} has no version ${to}`)
    assert.deepEqual(
      [...declared].sort((a, b) => a - b),
      declared,
      op,
    )
  }
})

const operators: Readonly<Record<string, (a: number, b: number) => number>> = {
  Add: (a, b) => a + b,
  Sub: (a, b) => a - b,
  Mul: (a, b) => a * b,
  Div: (a, b) => a / b,
  Pow: (a, b) => a ** b,
  Less: (a, b) => Number(a < b),
  Greater: (a, b) => Number(a > b),
}

test('an operand that stands at an axis of the other one, 300 times', async () => {
  const random = new Rng(17)
  const pick = (n: number): number => random.integer(n)
  const ops = Object.keys(operators)
  const seen = new Set<string>()
  for (let round = 0; round < 300; round++) {
    const op = ops[round % ops.length]!
    const dims = Array.from({ length: 1 + pick(4) }, () => 1 + pick(4))
    const axis = pick(dims.length)
    const length = 1 + pick(dims.length - axis)
    const atEnd = axis + length === dims.length
    const own = dims.slice(axis, axis + length)
    const one = pick(6) === 0
    const [a, b] = [randomly(random, dims), randomly(random, one ? Array(pick(3)).fill(1) : own)]
    const constant = one || pick(2) === 0
    const unranked = pick(3) === 0
    const attributes = {
      broadcast: 1,
      ...(!one && (!atEnd || pick(2)) && { axis: atEnd && pick(3) === 0 ? -1 : axis }),
    }
    const old = {
      ...{ opset: 1 + pick(6), op, attributes },
      inputs: [
        { tensor: a, unranked },
        { tensor: b, constant },
      ],
    }
    seen.add(`${constant} ${unranked} ${atEnd} ${one}`)
    const [x, y] = [a.toFloat32(), b.toFloat32()]
    const behind = product(dims.slice(axis + length))
    const expected = x.map((v, i) => operators[op]!(v, one ? y[0]! : y[Math.floor(i / behind) % y.length]!))
    const to = TARGETS[pick(4)]!
    const [out] = await lifted(old, to)
    same(out!, dims, expected, `round ${round}: ${JSON.stringify({ op, dims, own: b.dims, attributes, unranked, to })}`)
  }
  assert.ok(seen.size >= 10, [...seen].join())
})

test('without broadcast the shapes are the same, and truth values are broadcast as numbers are', async () => {
  const bools = (dims: readonly number[], values: readonly number[]): Tensor => Tensor.from('bool', dims, values)
  const a = { tensor: bools([2, 2], [1, 0, 1, 0]) }
  for (const [op, expected] of [
    ['And', [1, 0, 0, 0]],
    ['Or', [1, 1, 1, 0]],
    ['Xor', [0, 1, 1, 0]],
  ] as const) {
    const b = { tensor: bools([2], [1, 0]), constant: true }
    const [out] = await lifted({ opset: 6, op, inputs: [a, b], attributes: { broadcast: 1, axis: 0 } }, 13)
    same(out!, [2, 2], expected, op)
  }
  const plain = { tensor: Tensor.float32([2], [1, 2]) }
  const attributes = { broadcast: 0, consumed_inputs: [0, 0] }
  same((await lifted({ opset: 1, op: 'Add', inputs: [plain, plain], attributes }, 7))[0]!, [2], [2, 4], 'Add')
})

test('an operand that does not fit at its axis, or of no known rank, is refused with the reason', () => {
  const a = { tensor: Tensor.float32([2, 3], [1, 2, 3, 4, 5, 6]) }
  const b = { tensor: Tensor.float32([2, 3], [1, 2, 3, 4, 5, 6]) }
  const attributes = { broadcast: 1, axis: 1 }
  const refuse = (old: Old, why: RegExp): void =>
    assert.throws(
      () => upgradeModelTo(modelOf(old), 21),
      (e) => e instanceof Error && why.test(e.message),
    )
  refuse({ opset: 6, op: 'Add', inputs: [a, b], attributes }, /'it'.*rank 2 does not fit at axis 1 of rank 2/)
  refuse({ opset: 6, op: 'Add', inputs: [a, { ...b, unranked: true }], attributes }, /rank of 'in1' is unknown/)
  refuse({ opset: 1, op: 'Cast', inputs: [a], attributes: { to: 'FLOATY' } }, /'FLOATY' is not an element type/)
  refuse({ opset: 1, op: 'Split', inputs: [a], outputs: 2 }, /no axis/)
  refuse({ opset: 1, op: 'LpPool', inputs: [a], attributes: { p: float(1.5) } }, /power 1.5/)
  refuse({ opset: 5, op: 'Affine', inputs: [a] }, /opset 5 has no operator with that name/)
})

/** Old form and its values; where the old form is one attribute away from a newer one, that one gives the values. */
const forms: readonly (readonly [name: string, old: Old, is: Old | { dims: number[]; values: number[] }])[] = (() => {
  const random = new Rng(3)
  const at = (dims: readonly number[]) => ({ tensor: randomly(random, dims) })
  const fixed = (tensor: Tensor) => ({ tensor, constant: true })
  const ints = (...values: number[]) => fixed(Tensor.int64([values.length], values))
  const x = at([2, 3, 4, 5])
  const channels = () => fixed(randomly(random, [3]))
  const consumed = { consumed_inputs: [0] }
  const statistics = [channels(), channels(), channels(), channels()]
  const simple = (op: string, extra: Attributes = {}) =>
    [
      op,
      { opset: 1, op, inputs: [x], attributes: { ...consumed, ...extra } },
      { opset: 7, op, inputs: [x], attributes: extra },
    ] as const
  const elements = Array.from(x.tensor.toFloat32())
  const slope = channels()
  const perElement = ['scale', 'bias', 'mean', 'var'].map(() => fixed(randomly(random, [3, 4, 5])))
  const normalised = elements.map((v, i) => {
    const [scale, bias, mean, variance] = perElement.map((t) => t.tensor.toFloat32()[i % 60]!)
    return ((v - mean!) / Math.sqrt(variance! + 1e-5)) * scale! + bias!
  })
  const matrix = {
    opset: 1,
    inputs: [at([2, 3]), fixed(randomly(random, [3, 4])), fixed(randomly(random, [4]))],
    op: 'Gemm',
  }
  return [
    ...['Abs', 'Ceil', 'Elu', 'Exp', 'Floor', 'HardSigmoid', 'LeakyRelu', 'Log', 'Neg', 'Reciprocal', 'Relu'].map(
      (op) => simple(op),
    ),
    ...['Sigmoid', 'Sqrt', 'Tanh', 'Sum', 'Max', 'Min', 'Mean'].map((op) => simple(op)),
    simple('Clip', { min: float(0.75), max: float(1.25) }),
    simple('Elu', { alpha: float(0.5) }),
    [
      'Selu',
      { opset: 1, op: 'Selu', inputs: [x], attributes: consumed },
      { opset: 7, op: 'Selu', inputs: [x], attributes: { alpha: float(1.6732), gamma: float(1.0507) } },
    ],
    [
      'Reshape by attribute',
      { opset: 4, op: 'Reshape', inputs: [x], attributes: { ...consumed, shape: [0, -1, 5] } },
      { dims: [2, 12, 5], values: elements },
    ],
    [
      'Cast by name',
      { opset: 5, op: 'Cast', inputs: [x], attributes: { to: 'INT32' } },
      { dims: [2, 3, 4, 5], values: elements.map(Math.trunc) },
    ],
    [
      'Cast to float',
      { opset: 1, op: 'Cast', inputs: [x], attributes: { to: 'DOUBLE' } },
      { dims: [2, 3, 4, 5], values: elements },
    ],
    [
      'Concat of channels',
      { opset: 3, op: 'Concat', inputs: [x, x] },
      { opset: 7, op: 'Concat', inputs: [x, x], attributes: { axis: 1 } },
    ],
    [
      'Dropout',
      { opset: 6, op: 'Dropout', inputs: [x], attributes: { is_test: 1 } },
      { dims: [2, 3, 4, 5], values: elements },
    ],
    [
      'Dropout of opset 1',
      { opset: 1, op: 'Dropout', inputs: [x], attributes: { ...consumed, is_test: 0 } },
      { dims: [2, 3, 4, 5], values: elements },
    ],
    [
      'BatchNormalization',
      {
        opset: 1,
        op: 'BatchNormalization',
        inputs: [x, ...statistics],
        attributes: { consumed_inputs: [0, 0, 0, 1, 1], is_test: 1 },
      },
      { opset: 9, op: 'BatchNormalization', inputs: [x, ...statistics] },
    ],
    [
      'BatchNormalization of each element',
      { opset: 6, op: 'BatchNormalization', inputs: [x, ...perElement], attributes: { is_test: 1, spatial: 0 } },
      { dims: [2, 3, 4, 5], values: normalised },
    ],
    [
      'Gemm',
      { ...matrix, attributes: { broadcast: 1, alpha: float(0.5) } },
      { ...matrix, opset: 7, attributes: { alpha: float(0.5) } },
    ],
    [
      'InstanceNormalization',
      { opset: 1, op: 'InstanceNormalization', inputs: [x, ...statistics.slice(2)], attributes: consumed },
      { opset: 7, op: 'InstanceNormalization', inputs: [x, ...statistics.slice(2)] },
    ],
    [
      'LpPool',
      { opset: 1, op: 'LpPool', inputs: [x], attributes: { p: float(3), kernel_shape: [2, 2] } },
      { opset: 7, op: 'LpPool', inputs: [x], attributes: { p: 3, kernel_shape: [2, 2] } },
    ],
    [
      'GlobalLpPool',
      { opset: 1, op: 'GlobalLpPool', inputs: [x], attributes: { p: float(1) } },
      { opset: 7, op: 'GlobalLpPool', inputs: [x], attributes: { p: 1 } },
    ],
    [
      'Pad',
      { opset: 1, op: 'Pad', inputs: [x], attributes: { paddings: [0, 0, 1, 2, 0, 0, 2, 1], value: float(0.5) } },
      { opset: 7, op: 'Pad', inputs: [x], attributes: { pads: [0, 0, 1, 2, 0, 0, 2, 1], value: float(0.5) } },
    ],
    [
      'PRelu a channel',
      { opset: 6, op: 'PRelu', inputs: [fixedSign(x.tensor), slope] },
      {
        dims: [2, 3, 4, 5],
        values: elements.map((v, i) =>
          v - 1 < 0 ? (v - 1) * slope.tensor.toFloat32()[Math.floor(i / 20) % 3]! : v - 1,
        ),
      },
    ],
    [
      'Split by input',
      { opset: 1, op: 'Split', inputs: [x, ints(1, 2)], outputs: 2, attributes: { axis: 1 } },
      { opset: 7, op: 'Split', inputs: [x], outputs: 2, attributes: { axis: 1, split: [1, 2] } },
    ],
    [
      'Tile along an axis',
      { opset: 5, op: 'Tile', inputs: [x, ints(3), ints(1)] },
      { opset: 7, op: 'Tile', inputs: [x, ints(1, 3, 1, 1)] },
    ],
    [
      'Upsample',
      { opset: 6, op: 'Upsample', inputs: [x], attributes: { height_scale: float(2), width_scale: float(3) } },
      { opset: 7, op: 'Upsample', inputs: [x], attributes: { scales: floats([1, 1, 2, 3]) } },
    ],
  ]
})()

function fixedSign(t: Tensor): { tensor: Tensor } {
  return {
    tensor: Tensor.float32(
      t.dims,
      Array.from(t.toFloat32(), (v) => v - 1),
    ),
  }
}

for (const [name, old, is] of forms)
  test(`${name} of opset ${old.opset}`, async () => {
    for (const to of TARGETS) {
      const out = await lifted(old, to)
      if ('values' in is) same(out[0]!, is.dims, is.values, `to ${to}`)
      else {
        // the newer form as it stands at its own opset
        const expected = await lifted(is, is.opset)
        out.forEach((t, i) => void same(t, expected[i]!.dims, Array.from(expected[i]!.toFloat32()), `to ${to}`))
      }
    }
  })

test('BatchNormalization without is_test stays in training mode, and can be brought out of it', () => {
  const statistics = [1, 2, 3, 4].map(() => ({ tensor: Tensor.float32([2], [1, 2]), constant: true }))
  const inputs = [{ tensor: Tensor.float32([1, 2, 1, 1], [1, 2]) }, ...statistics]
  const model = modelOf({ opset: 6, op: 'BatchNormalization', inputs })
  upgradeModelTo(model, 21)
  verifyModel(model)
  assert.equal([...model.graph.nodes()][0]!.int('training_mode', 0), 1)
})

/** A small network as exporters of 2017 wrote them: IR 3, a bias at axis 1, no types but those of inputs and outputs. */
function network(opset: number, random: Rng, unranked = false): Model {
  const model = new Model(new Graph('net'), opset)
  model.irVersion = 3
  const { graph } = model
  const weight = (name: string, dims: readonly number[]): Value => {
    const t = randomly(random, dims).toFloat32()
    return graph.addInitializer(
      name,
      Tensor.float32(
        dims,
        Array.from(t, (v) => v - 1),
      ),
    )
  }
  let x = graph.addInput('x', { elem: 'float32', dims: unranked ? null : [1, 3, 8, 8] })
  const f = graph.append()
  const consumed = opset < 6 ? { consumed_inputs: [0, 0] } : {}
  x = f.op('Conv', [x, weight('w0', [6, 3, 3, 3])], { kernel_shape: [3, 3], pads: [1, 1, 1, 1] })
  x = f.op('Add', [x, weight('b0', [6])], { broadcast: 1, axis: 1, ...consumed })
  const scale = graph.addInitializer('scale', randomly(random, [6]))
  const variance = graph.addInitializer('variance', randomly(random, [6]))
  const normal = { is_test: 1, ...(opset < 6 && { consumed_inputs: [0, 0, 0, 1, 1] }) }
  x = f.op('BatchNormalization', [x, scale, weight('shift', [6]), weight('mean', [6]), variance], normal)
  x = f.op('Relu', [x], opset < 6 ? { consumed_inputs: [0] } : {})
  x = f.op('MaxPool', [x], { kernel_shape: [2, 2], strides: [2, 2] })
  x = f.op('Dropout', [x], { is_test: 1 })
  x =
    opset < 5
      ? f.op('Reshape', [x], { shape: [-1, 96] })
      : f.op('Reshape', [x, graph.addInitializer('shape', Tensor.int64([2], [-1, 96]))])
  x = f.op('Gemm', [x, weight('w1', [96, 10]), weight('b1', [10])], { broadcast: 1 })
  x = f.op('Softmax', [x], {}, { name: 'y' })
  x.setType({ elem: 'float32', dims: [1, 10] })
  graph.addOutput(x)
  return model
}

test('networks of opsets 1 to 6 go through passes, training and every export', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'mnc-early-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const run = async (...args: string[]): Promise<string> => {
    const [stdout, stderr] = [new Sink(), new Sink()]
    assert.equal(await runCommandLine(args, { stdout, stderr }), 0, `${args.join(' ')}: ${stderr.text}`)
    return stdout.text
  }
  for (let opset = 1; opset <= 6; opset++) {
    const path = join(folder, `net${opset}.onnx`)
    const [q, out] = [join(folder, 'q.onnx'), join(folder, 'out.onnx')]
    await writeModel(network(opset, new Rng(opset)), path)
    const info = JSON.parse(await run('info', path, '--json')) as { opset: number; macs: number }
    assert.deepEqual([info.opset, info.macs], [opset, 6 * 64 * 27 + 960])
    await run('pass', 'quantize', path, '--data', 'random', '--limit', '4', '-o', q)
    await run('check', path, q)
    await run('pass', 'prune', path, '--pattern', 'channel', '--sparsity', '0.5', '-o', out)
    await run('pass', 'remove-channels', out, '-o', out)
    assert.ok((await readModel(out)).opset >= 7)
    await run('train', path, '--teacher', path, '--data', 'random', '--batch', '1', '--max-steps', '1', '-o', out)
    for (const format of ['packed', 'int4', 'int8'])
      await run('export', q, '--format', format, '--allow-larger', '-o', out)
    const session = await ortExecutor().load(await readModel(out))
    const { y } = await session.run({ x: randomly(new Rng(1), [1, 3, 8, 8]) })
    await session.dispose()
    assert.ok(Math.abs(y!.toFloat32().reduce((a, b) => a + b) - 1) < 1e-4)
  }
})

test('the library checks, compares, scans and describes models of opsets 1 to 6 as they are', async () => {
  for (let opset = 1; opset <= 6; opset++) {
    const model = network(opset, new Rng(opset))
    const newer = cloneModel(model)
    upgradeModelTo(newer, 13)
    for (const [a, b] of [
      [model, newer],
      [newer, model],
    ] as const) {
      const { samples, maxRelError } = await checkModels(a, b)
      assert.ok(samples > 0 && maxRelError < 1e-5, `opset ${opset}: ${maxRelError}`)
    }
    const layers = await compareLayers(model, newer, { x: randomly(new Rng(2), [1, 3, 8, 8]) })
    assert.ok(layers.length > 0 && layers.every((l) => l.sqnr > 60), JSON.stringify(layers))
    const { points } = await scanSensitivity(model, { options: { sparsity: [0.5], weightBits: [4] } })
    assert.ok(points.length === 2 && points.every((p) => p.value! > 0), JSON.stringify(points))
    assert.equal((await modelInfo(model)).opset, opset)
    await diffModels(model, newer)
    await inferTypes(model)
    assert.equal(model.opset, opset)
  }
})
