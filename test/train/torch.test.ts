/**
 * Runs of a network with BatchNormalization against PyTorch doing the same (torch_oracle.py): losses, learning rates, weights and running
 * statistics over 20 steps. Skips where /usr/bin/python3 (or $PYTHON) has no torch and onnx.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import test from 'node:test'
import { writeModel } from '../../src/codec/codec.ts'
import { imageSource } from '../../src/train/loop/batch-source.ts'
import type { TrainOptionsInput } from '../../src/train/train-options.ts'
import { images, pixels, run, scratch, tinyNet, values } from './fixtures.ts'

const at = scratch()
const STEPS = 20
const BATCH = 6

const defaults = {
  ...{ loss: 'ce', alpha: 1, temperature: 1, labelSmoothing: 0, lr: 0.05, schedule: 'cosine', warmupSteps: 0 },
  ...{ warmupFrom: 0.001, milestones: [0.5, 0.75], gamma: 0.1, optimizer: 'sgd', momentum: 0.9, nesterov: false },
  ...{ weightDecay: 1e-4, clipNorm: 0, teacherBn: 'running' },
} as const satisfies TrainOptionsInput

const cases: readonly TrainOptionsInput[] = [
  { weightDecay: 0.01, warmupSteps: 5 },
  { nesterov: true, labelSmoothing: 0.1, schedule: 'step', clipNorm: 1 },
  { loss: 'kl', temperature: 3, alpha: 0.6, schedule: 'linear' },
  { loss: 'reverse-kl', teacherBn: 'batch', schedule: 'constant', lr: 0.02 },
  { loss: 'mse', schedule: 'step', gamma: 0.3 },
  { loss: 'l1', schedule: 'linear', warmupSteps: 4, lr: 0.01 },
]

async function batches(): Promise<{ x: number[]; labels: number[] }[]> {
  const source = imageSource(images(60), pixels, { batch: BATCH, parts: 1, seed: 0, augment: 'none', workers: 0 })
  const out = []
  for await (const { parts } of source.batches(0, STEPS))
    out.push({ x: Array.from(parts[0]!.images.view('float32')), labels: [...parts[0]!.labels!] })
  return out
}

function near(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number, what: string): void {
  assert.equal(actual.length, expected.length)
  for (let i = 0; i < actual.length; i++) {
    const most = tolerance * Math.max(1, Math.abs(expected[i]!))
    assert.ok(Math.abs(actual[i]! - expected[i]!) <= most, `${what} ${i}: ${actual[i]}, PyTorch ${expected[i]}`)
  }
}

test("20 steps are PyTorch's 20 steps", async (t) => {
  const [student, teacher] = [tinyNet(1), tinyNet(2)]
  await writeModel(student, at('student.onnx'))
  await writeModel(teacher, at('teacher.onnx'))
  const full = cases.map((c) => ({ ...defaults, ...c }))
  const paths = { model: at('student.onnx'), teacher: at('teacher.onnx'), steps: STEPS }
  const request = { batches: await batches(), cases: full.map((c) => ({ ...c, ...paths })) }
  const python = process.env.PYTHON ?? '/usr/bin/python3'
  const input = JSON.stringify(request)
  const answer = spawnSync(python, ['test/train/torch_oracle.py'], { input, encoding: 'utf8', maxBuffer: 2 ** 28 })
  if (answer.error || /No module named '(torch|onnx|numpy)'/.test(answer.stderr)) return t.skip('no torch')
  assert.equal(answer.status, 0, answer.stderr)
  const { rates, curves } = JSON.parse(answer.stdout) as {
    rates: number[][]
    curves: { losses: number[]; tensors: Record<string, number[]> }[]
  }
  for (const [i, options] of full.entries()) {
    const name = JSON.stringify(cases[i])
    const taught = options.loss === 'ce' ? undefined : { model: teacher, preprocess: pixels }
    const own = await run(student, { ...options, epochs: 2 }, { teacher: taught })
    const steps = own.events.flatMap((e) => (e.kind === 'step' ? [e.lr] : []))
    near(steps, rates[i]!, 1e-9, `${name} rate`)
    near(own.losses, curves[i]!.losses, 1e-5, `${name} loss`)
    for (const [tensor, expected] of Object.entries(curves[i]!.tensors))
      near(values(own.model, tensor), expected, 1e-4, `${name} ${tensor}`)
    assert.ok('stem.bn.running_var' in curves[i]!.tensors && 'fc.weight' in curves[i]!.tensors)
  }
})
