import assert from 'node:assert/strict'
import test from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import { Rng } from '../../src/base/rng.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { runPass as pass } from '../../src/passes/run-pass.ts'
import { sensitivityPlot } from '../../src/sensitivity/plot.ts'
import { type Sensitivity, scanSensitivity } from '../../src/sensitivity/sensitivity.ts'
import { proposedSettings } from '../../src/sensitivity/settings.ts'
import { CLASSES, images, linearModel, pixels, SIZE, tinyNet, values } from '../train/fixtures.ts'

const dataOf = (model: Model) => {
  const set = images(60)
  return {
    ...{ set, preprocess: pixels },
    calibration: {
      async *batches() {
        const rng = new Rng(1)
        const draw = Float32Array.from({ length: 4 * SIZE * SIZE }, () => rng.normal())
        yield { [model.graph.inputs[0]!.name]: Tensor.float32([4, 1, SIZE, SIZE], draw) }
      },
    },
  }
}

test('SQNR of a pruned layer is what arithmetic by hand gives', async () => {
  const model = linearModel()
  const data = dataOf(model)
  const options = { ops: ['Gemm'], sparsity: [0.5, 0.8], metric: 'sqnr', limit: 60 } as const
  const { points, samples } = await scanSensitivity(model, { data, options })
  assert.equal(samples, 60)
  const w = values(model, 'weight')
  const bias = values(model, 'bias')
  for (const { setting, value } of points) {
    const order = [...w.keys()].sort((a, b) => Math.abs(w[a]!) - Math.abs(w[b]!))
    const gone = new Set(order.slice(0, Math.round(setting * w.length)))
    let [signal, noise] = [0, 0]
    for (let i = 0; i < data.set.size; i++)
      for (let c = 0; c < CLASSES; c++) {
        let [y, lost] = [bias[c]!, 0]
        for (let p = 0; p < SIZE * SIZE; p++) {
          const x = (data.set.images[i * SIZE * SIZE + p]! / 255 - 0.5) / 0.25
          const k = c * SIZE * SIZE + p
          y += x * w[k]!
          if (gone.has(k)) lost += x * w[k]!
        }
        signal += y * y
        noise += lost * lost
      }
    const expected = 10 * Math.log10(signal / noise)
    assert.ok(Math.abs(value! - expected) < 1e-3, `${setting}: ${value}, not ${expected}`)
  }
})

test('every layer is tried at every setting, and the passes take what is proposed', async () => {
  const model = tinyNet()
  const options = { ops: ['Conv', 'Gemm'], metric: 'loss', tolerance: 0.02 } as const
  const r = await scanSensitivity(model, { data: dataOf(model), options })
  assert.deepEqual(
    r.layers.map((l) => l.name),
    ['stem.conv', 'body.conv', 'fc'],
  )
  assert.equal(r.points.length, 3 * 6)
  for (const p of r.points) assert.ok(Math.abs(p.change! - (p.value! - r.baseline)) < 1e-12)
  const settings = r.settings['layer-sparsity']
  for (const { name } of r.layers) {
    const fit = r.points.filter((p) => p.layer === name && p.kind === 'sparsity' && p.change! <= 0.02)
    assert.equal(settings[name], Math.max(0, ...fit.map((p) => p.setting)))
  }
  await pass(model, 'prune', { ops: ['Conv', 'Gemm'], layerSparsity: settings })
  await pass(model, 'quantize', {
    ...{ ops: ['Conv', 'Gemm'], activationBits: 0 },
    layerWeightBits: r.settings['layer-weight-bits'],
  })
})

test('the mildest setting that costs too much leaves the layer alone', () => {
  const point = (setting: number, change: number) =>
    ({ layer: 'a', kind: 'weight-bits', setting, value: 0, change }) as const
  const bits = (...changes: [number, number][]) =>
    proposedSettings(
      changes.map((c) => point(...c)),
      'accuracy',
      0.01,
    )['layer-weight-bits'].a
  assert.equal(bits([8, 0], [4, 0.005], [2, 0.3]), 4)
  assert.equal(bits([8, 0.02], [4, 0.2]), 0)
  assert.equal(proposedSettings([point(4, 25), point(2, 12)], 'sqnr', 20)['layer-weight-bits'].a, 4)
})

test('a scan that is stopped goes on, and ends with the same result', async () => {
  const model = tinyNet()
  const options = { sparsity: [0.5, 0.9], metric: 'loss' } as const
  const whole = await scanSensitivity(model, { data: dataOf(model), options })
  const stop = new AbortController()
  let last: Sensitivity | null = null
  const stopped = scanSensitivity(model, {
    ...{ data: dataOf(model), options, signal: stop.signal },
    onPoint(r, done) {
      last = r
      if (done === 3) stop.abort()
    },
  })
  await assert.rejects(stopped, (e) => e instanceof MncError && e.blame === 'interrupt')
  const counts: number[] = []
  const known = last!.points
  const resumed = await scanSensitivity(model, {
    ...{ data: dataOf(model), options, known },
    onPoint: (_, done) => void counts.push(done),
  })
  assert.deepEqual(counts, [3, 4])
  assert.deepEqual(resumed, whole)
})

test('layers that a pass leaves alone carry its reason; labels are asked for', async () => {
  const model = tinyNet()
  await pass(model, 'quantize', { activationBits: 0, only: ['stem.conv'] })
  const { points } = await scanSensitivity(model, { options: { weightBits: [4, 2] } })
  const [stem] = points
  assert.match(stem!.reason!, /quantised/)
  assert.equal(stem!.value, null)
  assert.ok(points.filter((p) => p.layer === 'body.conv').every((p) => p.value! > 5))
  await assert.rejects(scanSensitivity(model, { options: { metric: 'accuracy' } }), /needs labelled data/)
})

test('the chart is well-formed and holds every layer and measurement', async () => {
  const model = tinyNet()
  const r = await scanSensitivity(model, {})
  const svg = sensitivityPlot(r, 'a & b <c>')
  assert.match(svg, /a &amp; b &lt;c&gt;/)
  assert.equal(svg.match(/<circle /g)!.length, r.points.length)
  for (const l of r.layers) assert.ok(svg.includes(`>${l.name}</text>`))
  const open: string[] = []
  for (const [, close, name, own] of svg.matchAll(/<(\/?)(\w+)[^>]*?(\/?)>/g)) {
    if (own) continue
    if (close) assert.equal(open.pop(), name)
    else open.push(name!)
  }
  assert.deepEqual(open, [])
  assert.ok(!/NaN|undefined|Infinity/.test(svg))
})

test('a layer that a pass leaves alone has no number, even where the model has functions', async () => {
  const model = parseModel(`onnx {ir_version=10}
opset ai.onnx=21 own=1
graph "net"
  input %x : float32[2,2]
  init %w = float32[2,2] [1, 2, 3, 4]
  %h = MatMul(%x, %w) #name "product"
  %n = Neg(%w)
  %s = Add(%h, %n)
  %y : float32[2,2] = own::Act(%s) #name "act"
  output %y
end
function own::Act () opset ai.onnx=21
graph "Act"
  input %x
  %y = LeakyRelu(%x) #name "leaky"
  output %y
end
`)
  const options = { ops: ['MatMul'], sparsity: [0.5], weightBits: [2], metric: 'sqnr' } as const
  const { points, settings } = await scanSensitivity(model, { options })
  assert.equal(points.length, 2)
  for (const p of points) assert.match(p.value === null ? p.reason! : `${p.value}`, /also read by/)
  assert.deepEqual([settings['layer-sparsity'], settings['layer-weight-bits']], [{}, {}])
  assert.equal(model.functions.length, 1)
})

test('with ptq a quantised layer is measured behind rounding: what the passes leave, by hand', async () => {
  const model = tinyNet()
  const data = dataOf(model)
  const options = { ops: ['Conv', 'Gemm'], metric: 'sqnr', weightBits: [3], limit: 60 } as const
  const scan = async (ptq: boolean) => (await scanSensitivity(model, { data, options: { ...options, ptq } })).points
  const [rough, fine] = [await scan(false), await scan(true)]
  assert.equal(rough.length, fine.length)
  const mean = (points: readonly { readonly value: number | null }[]): number =>
    points.reduce((sum, p) => sum + p.value!, 0) / points.length
  // in dB: more is nearer
  assert.ok(mean(fine) > mean(rough), `${mean(rough)} and ${mean(fine)} dB`)
  assert.notDeepEqual(
    fine.map((p) => p.value),
    rough.map((p) => p.value),
  )
})
