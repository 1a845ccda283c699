/** `mnc sensitivity`: what pruning or quantising each layer alone would cost. */
import { optionsIn } from '../base/options.ts'
import { probeOptions } from '../runtime/probe-options.ts'

import { sizeOptions } from '../samples/size-options.ts'
import { byName, nameOf } from '../sensitivity/point.ts'
import type { Sensitivity } from '../sensitivity/sensitivity.ts'
import { sensitivityOptions } from '../sensitivity/sensitivity-options.ts'
import { defineCommand, output } from './define-command.ts'
import { openModel } from './open-model.ts'
import { dataOptions, dataOptionWith, openFor, pixelOptions } from './pixel-options.ts'
import { percent, table } from './table.ts'

export const sensitivity = defineCommand({
  name: 'sensitivity',
  summary: 'Measure what pruning or quantising each layer alone would cost',
  arguments: [{ name: 'MODEL', description: 'An .onnx file, or its text form' }],
  options: {
    data: dataOptionWith('; the training images by default. Without it, inputs are random (sqnr)'),
    ...dataOptions,
    ...pixelOptions,
    ...sizeOptions,
    ...sensitivityOptions,
    ...probeOptions,
    plot: {
      type: 'string',
      placeholder: 'FILE',
      description: 'Output file of the SVG chart; next to the JSON by default',
    },
    output: {
      ...output,
      description:
        'Output file of the JSON, MODEL.sensitivity.json by default; measurements already in it are not repeated',
    },
  },
  examples: [
    'mnc sensitivity student.onnx --data cifar100:DIR -o s.json',
    'mnc pass prune student.onnx --layer-sparsity @s.json',
    'mnc pass quantize student.onnx --data cifar100:DIR --layer-weight-bits @s.json --layer-activation-bits @s.json',
  ],
  async run([path = ''], options, io) {
    const { writeFileAtomic } = await import('../base/files.ts')
    const { scanSensitivity } = await import('../sensitivity/sensitivity.ts')
    const { readScan, scanIdentity } = await import('../sensitivity/scan-file.ts')
    const { sensitivityPlot } = await import('../sensitivity/plot.ts')
    const { recordSizes } = await import('../samples/input-shapes.ts')
    const model = await openModel(path, io)
    recordSizes([model], options)
    const base = path.replace(/\.\w+$/, '')
    const out = options.output ?? `${base}.sensitivity.json`
    const plot = options.plot ?? `${out.replace(/\.json$/, '')}.svg`
    const own = Object.fromEntries(Object.keys(sensitivityOptions).map((k) => [k, options[k as keyof typeof options]]))
    const data = options.data === undefined ? undefined : await openData(options.data)
    const identity = scanIdentity(model, own, { seed: io.seed, ...(data && { images: data.set, ...data.preprocess }) })
    const known = await readScan(out, identity, (message) => io.log(message))
    const write = async (r: Sensitivity): Promise<void> => {
      const facts = { model: path, data: options.data ?? null, identity }
      await writeFileAtomic(out, `${JSON.stringify({ ...facts, ...r }, null, 2)}\n`)
    }
    let progress = null as ReturnType<typeof io.progress> | null
    let start = 0
    try {
      const result = await scanSensitivity(model, {
        ...{ options: own, seed: io.seed, known, ...(data && { data }) },
        async onPoint(r, done, total) {
          if (!progress) start = done
          progress ??= io.progress('sensitivity', total - done)
          if (done > start) await write(r)
          progress.update(done - start, lastOf(r))
        },
      })
      await write(result)
      await writeFileAtomic(plot, sensitivityPlot(result, `${path}: sensitivity of its layers`))
      io.result({ output: out, plot, ...result }, (width) => `${describe(result, width)}\n\n${out}\n${plot}`)
    } finally {
      progress?.end()
    }

    async function openData(reference: string) {
      const { calibrationData } = await import('../data/index.ts')
      const { data: whole, preprocess } = await openFor(model, reference, 'train', options, io)
      const { calibrate: limit, batch } = options
      const calibration = await calibrationData(model, whole, { limit, batch, ...optionsIn(pixelOptions, options) })
      return { set: whole.take(options.limit), preprocess, calibration }
    }
  },
})

function lastOf(r: Sensitivity): string {
  const last = r.points.at(-1)
  return last ? `${last.layer} ${nameOf(last)}` : ''
}

function describe(r: Sensitivity, width: number): string {
  const columns = [...byName(r.points).keys()]
  const shown = (v: number): string =>
    r.metric === 'accuracy' ? percent(v, 2) : v.toFixed(r.metric === 'loss' ? 4 : 1)
  const rows = r.layers.map(({ name, op, weights }) => {
    const own = new Map(r.points.filter((p) => p.layer === name).map((p) => [nameOf(p), p]))
    const cells = columns.map((c) => own.get(c)?.value ?? null)
    return [name, op, weights.toLocaleString('en'), ...cells.map((v) => (v === null ? '-' : shown(v)))]
  })
  const what = { accuracy: 'top-1', loss: 'cross entropy', sqnr: 'SQNR in dB' }[r.metric]
  const unchanged = r.metric === 'sqnr' ? '' : `; unchanged ${shown(r.baseline)}`
  const left = r.points.filter((p) => p.reason !== undefined)
  const reasons = [...new Set(left.map((p) => `${p.layer}: ${p.reason}`))]
  return [
    `${what} on ${r.samples} samples with one layer changed${unchanged}`,
    table([['layer', 'op', 'weights', ...columns], ...rows], `llr${'r'.repeat(columns.length)}`, width),
    ...reasons,
  ].join('\n')
}
