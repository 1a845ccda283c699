/** How models take samples, and that each sample gets the result that onnxruntime computes for it alone. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { modelInfo } from '../../src/analysis/model-info.ts'
import type { Model } from '../../src/graph/model.ts'
import type { Tensor } from '../../src/graph/tensor.ts'
import type { Dim } from '../../src/graph/types.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { type BatchPlan, batchPlan, dimsAt, type PlanOptions } from '../../src/samples/batch-plan.ts'
import { recordSizes } from '../../src/samples/input-shapes.ts'
import { sliceSamples } from '../../src/samples/layout.ts'
import { randomInputs } from '../../src/samples/random-inputs.ts'
import { runSamples } from '../../src/samples/run-samples.ts'
import { average, boxes, classifier, mixing, noise, recurrent, several, WIDTH } from './batch-graphs.ts'

const names = (model: Model): string[] => model.graph.outputs.map((v) => v.name)

/** Values that onnxruntime gives for these feeds, by output. */
async function alone(model: Model, feeds: Readonly<Record<string, Tensor>>): Promise<Record<string, Tensor>> {
  const session = await ortExecutor().load(model, { optimization: 'disabled' })
  try {
    return await session.run(feeds)
  } finally {
    await session.dispose()
  }
}

/**
 * Runs `count` samples as the plan says, and each sample by itself: in all places of a batch of `together` (what the
 * graph takes), of which the first is read by `read`.
 */
async function holds(
  model: Model,
  plan: BatchPlan,
  count: number,
  together: number,
  read: (t: Tensor, output: string) => readonly number[],
): Promise<void> {
  const feeds = Object.fromEntries(
    Object.entries(dimsAt(plan, count)).map(([name, dims], i) => [name, noise(dims, count, i)]),
  )
  const session = await ortExecutor().load(model, { optimization: 'disabled' })
  const got = await runSamples(session, plan, feeds, count, names(model))
  await session.dispose()
  for (let i = 0; i < count; i++) {
    const own = Object.entries(feeds).map(([name, t]) => {
      const { axes } = plan.inputs.get(name)!
      return [name, sliceSamples(t, axes, i, 1, together)]
    })
    const want = await alone(model, Object.fromEntries(own))
    for (const name of names(model)) {
      assert.equal(got[name]!.length, count)
      const [a, b] = [Array.from(got[name]![i]!), read(want[name]!, name)]
      assert.equal(a.length, b.length, `${name} of sample ${i}`)
      for (const [k, x] of b.entries()) assert.ok(Math.abs(a[k]! - x) < 1e-5, `${name}[${i}][${k}]: ${a[k]}, ${x}`)
    }
  }
}

const firstOf =
  (n: number) =>
  (t: Tensor): readonly number[] =>
    Array.from(t.toNumbers()).slice(0, t.size / n)

test('a first dim that is fixed or open: the batch of the file, or any', async () => {
  for (const first of [1, 2, 8, 'N', 'unk__17', null]) {
    const model = classifier(first)
    const plan = await batchPlan(model, 5)
    const fixed = typeof first === 'number'
    assert.deepEqual([plan.batch, plan.isFixed], [fixed ? first : 5, fixed], `${first}`)
    for (const count of [1, 5, 11]) await holds(model, plan, count, fixed ? first : 1, firstOf(fixed ? first : 1))
  }
})

test('a batch that a Reshape bakes in is found, whatever the input says', async () => {
  for (const baked of [1, 3, 4, 37]) {
    const model = classifier('N', [baked, WIDTH])
    for (const asked of [1, 16]) {
      const plan = await batchPlan(model, asked)
      assert.deepEqual([plan.batch, plan.isFixed], [baked, true])
      await holds(model, plan, 9, baked, firstOf(baked))
    }
  }
})

test('samples that depend on each other are run alone', async () => {
  for (const model of [mixing(), average()]) {
    const plan = await batchPlan(model, 8)
    assert.deepEqual([plan.batch, plan.isFixed], [1, true])
    await holds(model, plan, 3, 1, firstOf(1))
  }
})

test('boxes of all samples, one after the other, are assigned to their samples in proportion', async () => {
  for (const across of [false, true]) {
    const free = await batchPlan(boxes('N', across), 8)
    assert.deepEqual([free.batch, free.isFixed], [8, false])
    await holds(boxes('N', across), free, 5, 1, firstOf(1))
  }
  const fixed = await batchPlan(boxes(4), 8)
  assert.deepEqual([fixed.batch, fixed.isFixed], [4, true])
  await holds(boxes(4), fixed, 6, 4, firstOf(4))
})

test('of time and batch the one whose samples do not depend on each other is the batch', async () => {
  const model = recurrent(['T', 'N', 3])
  const plan = await batchPlan(model, 4)
  assert.deepEqual([plan.batch, plan.isFixed, plan.sizes], [4, false, { T: 32 }])
  assert.deepEqual(dimsAt(plan, 4), { x: [32, 4, 3] })
  await holds(model, plan, 3, 1, firstOf(1))
  // with a batch of one sample, time is a length
  const single = await batchPlan(recurrent(['T', 1, 3]), 4)
  assert.deepEqual([single.batch, dimsAt(single, 1)], [1, { x: [32, 1, 3] }])
  const inputs = await randomInputs(recurrent(['T', 1, 3]), 4)
  assert.deepEqual([inputs.batch, inputs.dims], [1, { x: [32, 1, 3] }])
})

test('inputs with symbols of their own share the batch, and a state has it as its second dim', async () => {
  for (const symbols of [
    ['N', 'N'],
    ['batch', 'batch_1'],
  ] as const) {
    const model = several(symbols)
    const plan = await batchPlan(model, 4)
    assert.deepEqual([plan.batch, plan.isFixed], [4, false])
    assert.deepEqual(plan.inputs.get('state'), { dims: [2, 1, WIDTH], axes: [1] })
    assert.equal(plan.outputs.get('anchors'), 'shared')
    await holds(model, plan, 5, 1, firstOf(1))
  }
})

test('sizes of open dims are those that were given, else the first that runs, and the error names the option', async () => {
  const make = () => {
    const model = classifier('N')
    const x = model.graph.find('x')!
    x.setType({ elem: 'float32', dims: ['N', 'width'] })
    return model
  }
  // only 6 columns fit the weight, and no size that is tried is 6
  await assert.rejects(batchPlan(make(), 2), /any of the sizes tried.*'x' \[N,width\].*width=32/)
  const error = await batchPlan(make(), 2).catch((e: unknown) => e)
  assert.match(String((error as { next: string }).next), /--dim width=N/)
  const model = make()
  recordSizes([model], { dim: { width: WIDTH } })
  const plan = await batchPlan(model, 2)
  assert.deepEqual([dimsAt(plan, 2), plan.sizes], [{ x: [2, WIDTH] }, {}])
  const nameless = make()
  nameless.graph.find('x')!.setType({ elem: 'float32', dims: [null, null] })
  const other = await batchPlan(nameless, 2).catch((e: unknown) => e)
  assert.match(String((other as { next: string }).next), /--input-shape x=\?,N/)
  recordSizes([nameless], { inputShape: { '': `?,${WIDTH}` } })
  assert.deepEqual(dimsAt(await batchPlan(nameless, 3), 3), { x: [3, WIDTH] })
})

test('a fixed batch is opened for callers that write their own', async () => {
  const options: PlanOptions = { reopen: true }
  const open = await batchPlan(classifier(1), 7, options)
  assert.deepEqual([open.batch, open.isFixed, dimsAt(open, 7)], [7, false, { x: [7, WIDTH] }])
  const baked = await batchPlan(classifier(4, [4, WIDTH]), 7, options)
  assert.deepEqual([baked.batch, baked.isFixed], [4, true])
  const model = classifier(1)
  await batchPlan(model, 7, options)
  assert.deepEqual(model.graph.fed[0]!.type!.dims, [1, WIDTH], 'the model stays as it is')
})

test('MACs are those of one sample at whatever batch runs', async () => {
  const macs = WIDTH * 3
  for (const model of [classifier('N'), classifier(8), classifier('N', [4, WIDTH]), classifier(null, [4, WIDTH])])
    assert.equal((await modelInfo(model)).macs, macs)
  const steps = async (dims: readonly Dim[]) => {
    const said: string[] = []
    const info = await modelInfo(recurrent(dims), { warn: (m) => void said.push(m) })
    return { macs: info.macs!, said }
  }
  const one = (await steps([1, 1, 3])).macs
  assert.ok(one > 0)
  assert.equal((await steps([20, 1, 3])).macs, 20 * one, 'time is not a batch')
  assert.equal((await steps([20, 'N', 3])).macs, 20 * one)
  const open = await steps(['T', 'N', 3])
  assert.equal(open.macs, 32 * one)
  assert.match(open.said.join(), /first size that runs: T = 32/)
})
