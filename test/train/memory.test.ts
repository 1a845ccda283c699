/** `--memory`: what is chosen, that results are those of the options that it stands for, and what is refused. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { buildNetwork } from '../../src/models/spec.ts'
import type { MemoryPlan } from '../../src/train/loop/trainer.ts'
import { bytesOf, CLASSES, images, run, SIZE, scratch } from './fixtures.ts'

const model = buildNetwork({ family: 'resnet', depth: 8, channels: 1, size: SIZE, classes: CLASSES } as never, {
  seed: 2,
})
const data = images(256)
const options = { batch: 128, maxSteps: 2 } as const

async function within(memory: number, more: object = {}) {
  const ran = await run(model, { ...options, ...more, memory: `${Math.floor(memory)}b` }, { data })
  const start = ran.events.find((e) => e.kind === 'start')!
  return { ...ran, plan: start.memory! }
}

const least = (p: MemoryPlan): number => p.bytes

test('nothing is done that need not be; then activations are computed again, which changes no bit', async () => {
  const plain = await run(model, options, { data })
  const roomy = await within(4e9)
  assert.equal(roomy.plan.recomputed, 0)
  assert.equal(roomy.plan.runs, 1)
  assert.ok(roomy.plan.activations > 0)
  assert.deepEqual(bytesOf(roomy.model), bytesOf(plain.model))
  const tight = await within(least(roomy.plan) - 1)
  assert.ok(tight.plan.recomputed > 0 && tight.plan.runs === 1, JSON.stringify(tight.plan))
  assert.ok(tight.plan.bytes <= tight.plan.limit && tight.plan.bytes < roomy.plan.bytes)
  assert.deepEqual(tight.losses, plain.losses)
  assert.deepEqual(bytesOf(tight.model), bytesOf(plain.model))
  assert.equal(tight.summary.divided, undefined)
})

test('then batches are divided: the run that --batch and --accumulate give, in its bytes and its summary', async () => {
  const roomy = await within(4e9)
  const half = await within(4e9, { batch: 64 })
  // less than any choice of activations at the whole batch, enough for half of it
  const { plan, losses, model: trained, summary } = await within(half.plan.bytes)
  assert.ok(plan.runs > 1 && plan.bytes <= plan.limit && plan.bytes < roomy.plan.bytes, JSON.stringify(plan))
  assert.deepEqual(summary.divided, { batch: 128 / plan.runs, accumulate: plan.runs })
  const same = await run(model, { ...options, ...summary.divided }, { data })
  assert.deepEqual(losses, same.losses)
  assert.deepEqual(bytesOf(trained), bytesOf(same.model))
})

test('a limit goes on from a checkpoint that was written without one', async () => {
  const checkpoint = scratch()('run.checkpoint.onnx')
  const roomy = await within(4e9)
  await run(model, { ...options, maxSteps: 1 }, { data, checkpoint })
  const limit = `${Math.floor(least(roomy.plan) - 1)}b`
  const went = await run(model, { ...options, memory: limit }, { data, checkpoint, resume: true })
  assert.deepEqual(bytesOf(went.model), bytesOf(roomy.model))
})

test('more than the limit was taken: said once', async () => {
  // the process of the tests is larger than a run's
  const { events, plan } = await within((await within(4e9)).plan.bytes)
  const said = events.filter((e) => e.kind === 'memory')
  const peak = process.resourceUsage().maxRSS * 1024
  assert.equal(said.length, peak > plan.limit ? 1 : 0)
})

test('what cannot be is refused, with the least that can', async () => {
  const refused = await within(1e6).then(
    () => null,
    (e: Error) => e,
  )
  const amount = /takes at least (\d+) MB, with batches of one input/.exec(refused?.message ?? '')?.[1]
  assert.ok(amount, String(refused))
  const { plan } = await within(Number(amount) * 1e6)
  assert.equal(plan.batch, 1)
  for (const memory of ['2 apples', '0', '-1GB', 'GB'])
    await assert.rejects(run(model, { ...options, memory }, { data }), /this is no amount of memory/)
})
