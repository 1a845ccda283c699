import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import {
  checkClasses,
  Dataset,
  imageInput,
  type Preprocess,
  preprocessOf,
  readPreprocess,
  writePreprocess,
} from '../../src/data/index.ts'
import { Resizer } from '../../src/data/resize.ts'
import { marks } from '../../src/graph/marks.ts'
import { Model } from '../../src/graph/model.ts'
import type { Dim } from '../../src/graph/types.ts'

function modelOf(dims: readonly Dim[], classes: Dim = 10): Model {
  const model = new Model()
  const x = model.graph.addInput('x', { elem: 'float32', dims })
  const node = model.graph.append().op('Flatten', [x])
  node.setType({ elem: 'float32', dims: ['n', classes] })
  model.graph.addOutput(node)
  return model
}
function setOf(channels: number, side: number, classes = 10): Dataset {
  const statistics = async () => ({ mean: new Array(channels).fill(0.5), std: new Array(channels).fill(0.25) })
  const images = new Uint8Array(channels * side * side)
  return new Dataset({
    ...{ name: 'probe', split: 'test', classes, channels, height: side, width: side, images, statistics },
    labels: Int32Array.of(0),
  })
}
const rejects = (p: Promise<unknown>, code: string, message: RegExp) =>
  assert.rejects(p, (e) => e instanceof MncError && e.code === code && message.test(e.describe()))

test('the record survives the metadata; a malformed one is the model’s fault', () => {
  const model = modelOf(['n', 3, 32, 32])
  assert.equal(readPreprocess(model), null)
  const p: Preprocess = {
    scale: 255,
    mean: [0.1, 0.2, 0.3],
    std: [1, 2, 3],
    size: [32, 32],
    layout: 'NCHW',
    replicateGrey: true,
  }
  writePreprocess(model, p)
  assert.deepEqual(readPreprocess(model), p)
  for (const bad of ['', '[]', '{"scale":255}', marks.preprocess.text(model)!.replace('255', '-1')]) {
    model.metadata.set(marks.preprocess.key, bad)
    assert.throws(
      () => readPreprocess(model),
      (e) => e instanceof MncError && e.blame === 'model' && /mnc\.preprocess/.test(e.message),
    )
  }
})

test('the image input: layouts, open dimensions, initializers that are inputs', () => {
  const of = (...dims: Dim[]) => imageInput(modelOf(dims))
  assert.deepEqual(of('n', 3, 32, 24), { name: 'x', layout: 'NCHW', channels: 3, height: 32, width: 24 })
  assert.deepEqual(of(1, 28, 28, 1), { name: 'x', layout: 'NHWC', channels: 1, height: 28, width: 28 })
  assert.deepEqual(of('n', 3, 'h', 'w'), { name: 'x', layout: 'NCHW', channels: 3, height: null, width: null })
  assert.throws(() => of('n', 784), /one input, of rank 4 .*'x' float32\[n,784\]/)
})

test('what is used: options over the model’s record over the data set’s statistics, which is told', async () => {
  const model = modelOf(['n', 3, 32, 32])
  const told: string[] = []
  const warn = (m: string) => told.push(m)
  const assumed = await preprocessOf(model, setOf(3, 32), {}, warn)
  assert.deepEqual(assumed, {
    scale: 255,
    mean: [0.5, 0.5, 0.5],
    std: [0.25, 0.25, 0.25],
    size: [32, 32],
    layout: 'NCHW',
  })
  assert.equal(told.length, 1)
  assert.match(told[0]!, /assuming the statistics of probe/)
  const given = await preprocessOf(model, setOf(3, 32), { mean: [0.4], std: [0.1, 0.2, 0.3], scale: 1 }, warn)
  assert.deepEqual([given.mean, given.std, given.scale], [[0.4, 0.4, 0.4], [0.1, 0.2, 0.3], 1])
  // numbers of 0 to 1 beside pixels of 0 to 255
  assert.match(told[1]!, /the preprocessing looks wrong/)
  writePreprocess(model, { ...assumed, mean: [0.1, 0.1, 0.1] })
  assert.deepEqual((await preprocessOf(model, setOf(3, 28), {}, warn)).mean, [0.1, 0.1, 0.1])
  assert.deepEqual(
    (await preprocessOf(modelOf(['n', 3, 'h', 'w']), setOf(3, 32), { inputSize: [48] }, warn)).size,
    [48, 48],
  )
  assert.equal(told.length, 3)
})

test('what does not fit is one clear error each', async () => {
  const model = modelOf(['n', 3, 32, 32])
  await rejects(
    preprocessOf(model, setOf(3, 32), { inputSize: [28] }),
    'input-size',
    /takes images of 32x32, not 28x28/,
  )
  await rejects(preprocessOf(model, setOf(1, 32)), 'channel-mismatch', /1 channel\(s\)/)
  assert.throws(
    () => checkClasses(model, setOf(3, 32, 100)),
    (e: MncError) => e.code === 'class-mismatch' && /10 classes, but probe has 100/.test(e.message),
  )
  // pixels are read all the same
  assert.deepEqual((await preprocessOf(model, setOf(3, 32, 100))).size, [32, 32])
  await rejects(preprocessOf(model, setOf(3, 32), { mean: [1, 2] }), 'bad-usage', /--mean must be 3 number/)
  await rejects(preprocessOf(model, setOf(3, 32), { std: [0] }), 'bad-usage', /--std must be above 0/)
  await rejects(preprocessOf(model, setOf(3, 32), { scale: 0 }), 'bad-usage', /--scale must be above 0/)
  const colour = { mean: [0.5], std: [0.2] }
  await rejects(preprocessOf(model, setOf(1, 32), colour), 'channel-mismatch', /1 channel\(s\), but input 'x' takes 3/)
  const grey = await preprocessOf(model, setOf(1, 32), { ...colour, replicateGrey: true })
  assert.equal(grey.mean.length, 3)
})

test('resizing equals PIL’s float BILINEAR, larger and smaller, and nearest its NEAREST', (t) => {
  try {
    execFileSync('/usr/bin/python3', ['-c', 'import PIL, numpy'], { stdio: 'ignore' })
  } catch {
    return t.skip("Debian's python3-pil is not installed")
  }
  const source = Float32Array.from({ length: 12 * 9 }, (_, i) => Math.fround(Math.sin(i * i) * 3))
  const sizes = [
    [12, 9],
    [28, 30],
    [5, 4],
    [7, 20],
    [24, 18],
  ] as const
  const code = `
import sys, json, numpy as np
from PIL import Image
x, sizes = json.load(sys.stdin)
x = Image.fromarray(np.array(x, dtype=np.float32).reshape(12, 9))
print(json.dumps([[np.array(x.resize((w, h), m)).ravel().tolist() for m in (Image.BILINEAR, Image.NEAREST)] for h, w in sizes]))`
  const input = JSON.stringify([[...source], sizes])
  const answers = JSON.parse(
    execFileSync('/usr/bin/python3', ['-c', code], { input, encoding: 'utf8' }),
  ) as number[][][]
  for (const [n, [h, w]] of sizes.entries())
    for (const [m, mode] of (['bilinear', 'nearest'] as const).entries()) {
      const expected = answers[n]![m]!
      const out = new Float32Array(h * w)
      new Resizer([12, 9], [h, w], mode).plane(source, 0, out, 0, w, 1)
      for (let i = 0; i < out.length; i++)
        assert.ok(Math.abs(out[i]! - expected[i]!) < 1e-5, `${mode} ${h}x${w} at ${i}: ${out[i]} ${expected[i]}`)
    }
})
