import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import { decodeModel, encodeModel, writeModel } from '../../src/codec/codec.ts'
import { runCommandLine } from '../../src/commands/program.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { verifyModel } from '../../src/graph/verify.ts'
import { ops } from '../../src/ops/index.ts'
import { upgradeModelTo } from '../../src/ops/raise-opset.ts'
import { reformsBetween, sinceVersions } from '../../src/ops/support/schema-versions.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { upgradeOpset } from '../../src/passes/upgrade-opset.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { Sink } from '../cli/sink.ts'
import { buildSample } from '../ops/sample-model.ts'
import { nodeTests, readNodeTest } from '../support/node-tests.ts'
import { checkUpgrades } from '../support/upgrade-check.ts'

const context = { decline: () => {}, log: () => {}, seed: 0 }

/** A model of one node over float inputs `x0..`. */
function single(
  opset: number,
  op: string,
  dims: readonly number[],
  attributes = {},
  extra: readonly Tensor[] = [],
): Model {
  const model = new Model(new Graph('one'), opset)
  const { graph } = model
  const x = graph.addInput('x', { elem: 'float32', dims })
  const inputs = [x, ...extra.map((t, i) => graph.addInitializer(`c${i}`, t))]
  const node = graph.append().node({ op, name: 'it', inputs, outputs: ['y'], attributes })
  graph.addOutput(node.output)
  return model
}

const run = async (model: Model, x: Tensor): Promise<Tensor> => {
  const session = await ortExecutor().load(model)
  const { y } = await session.run({ x })
  await session.dispose()
  return y!
}

test('the table of since-versions covers every operator that is declared', () => {
  for (const def of ops) {
    if (def.domain) continue
    const since = sinceVersions(def.op)
    assert.ok(since, `${def.op} is not in the table`)
    for (const u of def.upgrades ?? [])
      assert.ok(since.includes(u.to) || u.to === 10, `${def.op} has no version ${u.to}`)
  }
})

test('every reform of a declared operator from 8 to 25 has an upgrade', () => {
  for (const def of ops)
    for (const version of def.domain ? [] : reformsBetween(def.op, 7, 25))
      assert.equal(
        def.upgrades?.some((u) => u.to === version) ?? false,
        // its batch axis went and nothing came in its place
        def.op !== 'Scan',
        `${def.op} ${version}`,
      )
})

test('node tests in older forms give the expected outputs at opset 21 and 25', async (t) => {
  const names = nodeTests()
  if (names.length === 0) return t.skip('.data/node-tests is not there')
  const chosen = [
    ...['test_slice_neg', 'test_split_variable_parts_2d_opset18', 'test_split_equal_parts_default_axis_opset18'],
    ...['test_squeeze_negative_axes', 'test_unsqueeze_two_axes', 'test_reduce_sum_default_axes_keepdims_random'],
    ...['test_reduce_l2_keep_dims_random', 'test_edge_pad', 'test_constant_pad', 'test_clip', 'test_top_k'],
    ...['test_softmax_negative_axis', 'test_logsoftmax_axis_2', 'test_hardmax_negative_axis'],
    ...['test_dropout_default_ratio', 'test_upsample_nearest', 'test_resize_upsample_scales_nearest'],
    ...['test_resize_downsample_scales_linear', 'test_scatter_elements_with_axis', 'test_scatter_with_axis'],
    ...[
      'test_batchnorm_epsilon',
      'test_gridsample_bicubic',
      'test_dft_axis',
      'test_maxpool_2d_ceil',
      'test_gemm_transposeB',
    ],
  ]
  let [forms, rewritten] = [0, 0]
  for (const name of chosen) {
    assert.ok(names.includes(name), `${name} is not there`)
    const c = readNodeTest(name)
    assert.ok(typeof c !== 'string', `${name}: ${String(c)}`)
    for (const to of [21, 25])
      for (const outcome of await checkUpgrades(c, to)) {
        assert.equal(outcome.miss, null, `${outcome.where}: ${outcome.miss}`)
        forms++
        if (outcome.rewritten) rewritten++
      }
  }
  assert.ok(forms >= 80 && rewritten >= 30, `${forms} older forms, ${rewritten} of them rewritten`)
})

test('a softmax over the flattened rest keeps its meaning on images', async () => {
  const x = Tensor.float32(
    [2, 2, 2, 3],
    Array.from({ length: 24 }, (_, i) => Math.sin(i)),
  )
  for (const op of ['Softmax', 'LogSoftmax', 'Hardmax']) {
    const model = single(11, op, x.dims, { axis: 2 })
    const before = await run(model, x)
    assert.equal(upgradeModelTo(model, 13), true)
    verifyModel(model)
    const after = await run(model, x)
    before.toFloat32().forEach((v, i) => {
      assert.ok(Math.abs(v - after.toFloat32()[i]!) < 1e-6)
    })
  }
})

test('resizing that shrinks one axis and grows another rounds as opset 10 did', async () => {
  const x = Tensor.float32(
    [1, 1, 5, 5],
    Array.from({ length: 25 }, (_, i) => i),
  )
  const model = single(10, 'Resize', x.dims, { mode: 'nearest' }, [Tensor.float32([4], [1, 1, 0.6, 1.5])])
  const before = await run(model, x)
  upgradeModelTo(model, 21)
  assert.deepEqual([...(await run(model, x)).toFloat32()], [...before.toFloat32()])
})

test('bodies of control flow and of functions are upgraded, and hold no initializers', async () => {
  const model = new Model(new Graph('main'), 11)
  const { graph } = model
  const x = graph.addInput('x', { elem: 'float32', dims: [2, 1, 3] })
  const condition = graph.addInitializer('condition', Tensor.from('bool', [], [1]))
  const branch = (op: string): Graph => {
    const g = new Graph(op, graph)
    g.addOutput(g.append().op(op, [x], { axes: op === 'Squeeze' ? [1] : [0] }))
    g.outputs[0]!.setType({ elem: 'float32', dims: null })
    return g
  }
  const attributes = {
    then_branch: { kind: 'graph', value: branch('Squeeze') },
    else_branch: { kind: 'graph', value: branch('Unsqueeze') },
  } as const
  const chosen = graph.append().op('If', [condition], attributes)
  const body = new Graph('body')
  const inner = body.addInput('a', null)
  body.addOutput(body.append().op('Unsqueeze', [inner], { axes: [0] }))
  const opsets = new Map([['', 11]])
  model.functions.push({
    domain: 'local',
    name: 'F',
    overload: '',
    attributes: [],
    opsets,
    graph: body,
    extra: undefined,
  })
  model.opsets.set('local', 1)
  graph.addOutput(graph.append().op('F', [chosen], {}, { domain: 'local', name: 'y' }))
  assert.equal(upgradeModelTo(model, 21), true)
  verifyModel(model)
  assert.equal(model.opset, 21)
  assert.equal(model.functions[0]!.opsets.get(''), 21)
  assert.equal([...body.initializers()].length, 0)
  const y = await run(model, Tensor.float32([2, 1, 3], [1, 2, 3, 4, 5, 6]))
  assert.deepEqual(y.dims, [1, 2, 3])
})

test('applied twice it changes nothing, and a newer model is left alone with a reason', async () => {
  const model = single(9, 'Slice', [4, 5], { starts: [1], ends: [3], axes: [1] })
  assert.equal(await upgradeOpset.run(model, { to: 21 }, context), true)
  assert.equal(model.irVersion, 10)
  assert.equal(await upgradeOpset.run(model, { to: 21 }, context), false)
  const reasons: string[] = []
  assert.equal(
    upgradeModelTo(model, 13, (_where, reason) => reasons.push(reason)),
    false,
  )
  assert.equal(model.opset, 21)
  assert.match(reasons.join(), /already at opset 21/)
})

test('names of values stay, and a graph output that is replaced keeps its name', () => {
  const model = single(9, 'Upsample', [1, 1, 2, 2], {}, [Tensor.float32([4], [1, 1, 2, 2])])
  upgradeModelTo(model, 21)
  assert.deepEqual(
    model.graph.outputs.map((v) => v.name),
    ['y'],
  )
  assert.equal([...model.graph.nodes()].find((n) => n.op === 'Resize')?.name, 'it')
})

test('what cannot be upgraded is a model error that names the node, and the model is unchanged', () => {
  const refuse = (model: Model, to: number, pattern: RegExp): void => {
    const { opset } = model
    assert.throws(
      () => upgradeModelTo(model, to),
      (e) => e instanceof MncError && e.blame !== 'pass' && pattern.test(e.describe()),
    )
    assert.equal(model.opset, opset)
  }
  refuse(single(8, 'Scan', [1], {}), 21, /node 'it'.*opset 9.*cannot rewrite/)
  refuse(single(11, 'Gelu', [1], {}), 21, /opset 11 has no operator/)
  refuse(single(11, 'Relu', [1], {}), 40, /opset 40/)
  const none = single(11, 'Relu', [1], {})
  none.opsets.delete('')
  assert.throws(() => upgradeModelTo(none, 21), /imports no version/)
  const referring = new Model(new Graph('main'), 11)
  const body = new Graph('body')
  const a = body.addInput('a', null)
  const axes = { kind: 'reference', value: 'axes', type: 7 } as const
  body.addOutput(body.append().op('Squeeze', [a], { axes }))
  const opsets = new Map([['', 11]])
  const f = { domain: 'local', name: 'F', overload: '', attributes: ['axes'], opsets, graph: body, extra: undefined }
  referring.functions.push(f)
  refuse(referring, 21, /caller/)
})

test('nodes of other domains stay as they are', () => {
  const model = single(11, 'Relu', [2], {})
  model.opsets.set('com.example', 3)
  const { graph } = model
  graph.addOutput(graph.append().op('Squeeze', [graph.inputs[0]!], { axes: [0] }, { domain: 'com.example' }))
  upgradeModelTo(model, 21)
  const node = [...graph.nodes()].find((n) => n.domain === 'com.example')!
  assert.deepEqual(node.ints('axes', []), [0])
  assert.equal(model.opsets.get('com.example'), 3)
})

test('a kernel that onnxruntime lacks is reported: after each upgrade it loads the model, or there was a warning', async () => {
  let [refused, loaded] = [0, 0]
  for (const def of ops) {
    const sample = def.samples[0]
    if (!sample || def.domain) continue
    for (const to of [22, 25]) {
      const model = decodeModel(encodeModel(buildSample(def, sample, 'float32').model))
      const log: string[] = []
      await runPass(model, 'upgrade-opset', { to }, { log: (line) => void log.push(line) })
      const session = await ortExecutor()
        .load(model, { quiet: true })
        .catch(() => null)
      await session?.dispose()
      const warnings = log.filter((line) => line.startsWith(`WARNING: at opset ${to} onnxruntime refuses the model`))
      assert.equal(warnings.length, session ? 0 : 1, `${def.op} to ${to}: ${log}`)
      if (session) loaded++
      else refused++
    }
  }
  assert.ok(refused > 0 && loaded > 0, `${refused} refused, ${loaded} loaded`)
})

test('convert --opset reports it too', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'mnc-convert-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'm.onnx')
  await writeModel(single(13, 'GlobalLpPool', [1, 2, 3, 3]), path)
  const convert = async (opset: number): Promise<string> => {
    const [stdout, stderr] = [new Sink(), new Sink()]
    assert.equal(await runCommandLine(['convert', path, '--opset', String(opset), '-o', path], { stdout, stderr }), 0)
    return stderr.text
  }
  assert.equal(await convert(21), '')
  assert.match(await convert(22), /WARNING: at opset 22 onnxruntime refuses the model: .*GlobalLpPool\(22\)/)
})

for (const [own, main] of [
  [17, 21],
  [21, 17],
  [13, 13],
  [21, 21],
] as const)
  test(`a function at opset ${own} in a model at ${main}: what is older is upgraded, and the pass reports correctly what it did`, async () => {
    const model = single(main, 'Relu', [2, 3])
    const body = new Graph('Bend')
    const a = body.addInput('a', null)
    const b = body.append()
    // the axis of Softmax and the form of Squeeze are other ones before 13
    body.addOutput(b.op('Softmax', [b.op('LeakyRelu', [a])], { axis: -1 }))
    const opsets = new Map([['', own]])
    model.functions.push({
      ...{ domain: 'own', name: 'Bend', overload: '', attributes: [], opsets, graph: body, extra: undefined },
    })
    model.opsets.set('own', 1)
    model.irVersion = 10
    const { graph } = model
    const [y] = graph.outputs
    graph.removeOutput(y!)
    graph.addOutput(graph.append().op('Bend', [y!], {}, { domain: 'own', name: 'z' }))
    const x = Tensor.float32([2, 3], [1, -2, 3, -4, 5, -6])
    const outputOf = async (): Promise<number[]> => {
      const session = await ortExecutor().load(model)
      const { z } = await session.run({ x })
      await session.dispose()
      return [...z!.toFloat32()]
    }
    const before = await outputOf()
    assert.equal((await runPass(model, 'upgrade-opset', { to: 21 })).changed, own < 21 || main < 21)
    assert.deepEqual([model.opset, model.functions[0]!.opsets.get('')], [21, 21])
    assert.equal((await runPass(model, 'upgrade-opset', { to: 21 })).changed, false)
    assert.deepEqual(await outputOf(), before)
  })
