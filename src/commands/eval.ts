/** `mnc eval`: accuracy of a classifier, and other metrics. */
import { MncError, usageError } from '../base/errors.ts'
import type { SampleSet } from '../data/array-set.ts'
import type { Preprocess } from '../data/preprocess.ts'
import type { ShownInput } from '../data/show-inputs.ts'
import { evaluateOptions, metricOptions, showOptions } from '../evaluate/evaluate-options.ts'
import type { Gauge, Measurement, MetricResult } from '../evaluate/measure.ts'
import { accuracy } from '../evaluate/metrics/accuracy.ts'
import { metricNamed } from '../evaluate/metrics/chosen.ts'
import type { PackedReading } from '../evaluate/packed-readings.ts'
import type { Model } from '../graph/model.ts'
import { probeOptions } from '../runtime/probe-options.ts'
import { sizeOptions } from '../samples/size-options.ts'
import { shardOptions } from '../shards/shard-options.ts'
import { cutOffNote } from './cut-off-note.ts'
import { defineCommand } from './define-command.ts'
import { type Division, divided } from './divide.ts'
import type { CommandIO } from './io.ts'
import { openModel } from './open-model.ts'
import { imageOptions, openFor } from './pixel-options.ts'
import { percent, table } from './table.ts'

/** What the answer says besides the measurement, and what it must reach. */
interface EvalFacts {
  readonly path: string
  readonly things: string
  readonly data: Readonly<Record<string, unknown>>
  readonly metrics: readonly string[]
  readonly gauges: readonly Gauge[]
  /** Pictures of what the model gets. */
  readonly shown: readonly ShownInput[] | null
  readonly minAccuracy: number | undefined
}

export const evalDivision: Division<EvalFacts, PackedReading, Measurement> = {
  command: 'eval',
  writesFile: false,
  async join({ metrics: names, gauges }, results) {
    const { Tally } = await import('../evaluate/measure.ts')
    const { unpackReading } = await import('../evaluate/packed-readings.ts')
    const tally = new Tally(names.map(metricNamed), gauges)
    for (const packed of results) tally.add(unpackReading(packed, gauges))
    return tally.result()
  },
  async finish({ path, things, data, shown, minAccuracy }, measured, _out, io) {
    const { accuracyOf, checkMeasured } = await import('../evaluate/evaluate.ts')
    const { samples, samplesPerSecond } = measured
    const result = accuracyOf(measured)
    if (result) checkMeasured(result, path)
    const { accuracy: _, ...others } = measured.metrics
    const facts = {
      ...(result ?? { samples, imagesPerSecond: samplesPerSecond }),
      ...(Object.keys(others).length > 0 && { metrics: others }),
    }
    const { guessingWarning } = await import('../data/fed-wrongly.ts')
    const guess = result ? guessingWarning(result.top1, Number(data.classes), samples, things === 'images') : null
    if (guess) io.log(`note: ${guess}`)
    io.result({ ...facts, data, ...(shown && { shown }) }, (width) => {
      const speed = `${samples} ${things}  ${samplesPerSecond.toFixed(0)} ${things === 'images' ? 'img' : 'samples'}/s`
      const scores = result
        ? `top-1 ${percent(result.top1, 2)}  top-5 ${percent(result.top5, 2)}  loss ${result.loss.toFixed(4)}  `
        : ''
      return [`${scores}${speed}`, ...Object.entries(others).map((m) => described(m, width))].join('\n')
    })
    if (minAccuracy === undefined) return
    if (!result || result.top1 >= minAccuracy) return
    const message = `top-1 is ${percent(result.top1, 2)}, below --min-accuracy ${percent(minAccuracy)}`
    throw new MncError(message, { code: 'min-accuracy', blame: 'gate', file: path })
  },
}

export const evalCommand = defineCommand({
  name: 'eval',
  summary: 'Measure the accuracy of a classifier on a data set, or other metrics',
  arguments: [{ name: 'MODEL', description: 'An .onnx file, its text form, or -' }],
  options: {
    ...imageOptions,
    ...sizeOptions,
    ...evaluateOptions,
    ...metricOptions,
    ...showOptions,
    ...probeOptions,
    ...shardOptions,
  },
  examples: [
    'mnc eval student.onnx --data cifar100:data',
    'mnc eval net.onnx --data cifar10:data --mean 0.5 --std 0.5',
    'mnc eval net.onnx --data npy:DIR --metric mse,psnr',
    'mnc eval net.onnx --data folder:DIR --show 8 --out seen',
  ],
  run: ([path = ''], options, io) =>
    divided(evalDivision, path, options, io, async () => {
      const { announceDevice } = await import('../runtime/devices/device.ts')
      const { chosenMetrics, gaugesOf, readings, Tally } = await import('../evaluate/measure.ts')
      const { packReadings } = await import('../evaluate/packed-readings.ts')
      const { inItems, samplesBetween } = await import('../data/items.ts')
      const { samplePlan } = await import('../data/sample-set.ts')
      const { fingerprint } = await import('../codec/codec.ts')
      for (const name of options.metric ?? []) metricNamed(name)
      if (options.out !== undefined && options.show === undefined)
        throw usageError('--out is for --show N', 'add --show 8')
      const device = await announceDevice(options.device, (line) => io.log(line))
      const { recordSizes } = await import('../samples/input-shapes.ts')
      const model = await openModel(path, io)
      const reference = options.reference === undefined ? undefined : await openModel(options.reference, io)
      recordSizes(reference ? [model, reference] : [model], options)
      const { data, preprocess } = await openFor(model, options.data, 'test', options, io)
      const set = options.limit === undefined ? data : data.take(options.limit)
      const { name, classes, classNames = null, notes } = set
      const things = preprocess ? 'images' : 'samples'
      const labels = set.isLabelled
        ? ` of ${classes} classes${classNames ? `: ${listed(classNames)}` : ''}`
        : ', no labels'
      io.log(`data: ${name}, ${set.size} ${things}${labels}`)
      const cutOff = options.device === undefined || options.device === 'cpu' ? await cutOffNote(model) : null
      if (cutOff) io.log(cutOff)
      const chosen = chosenMetrics(model, set, options.metric, reference !== undefined)
      if (options.minAccuracy !== undefined && !chosen.includes(accuracy))
        throw usageError('--min-accuracy needs the accuracy', 'add --metric accuracy')
      const gauges = gaugesOf(model, set, chosen, reference)
      const isFirst = options.shard === undefined || options.shard.startsWith('1/')
      const shown =
        options.show === undefined || !isFirst ? null : await shownInputs(model, set, preprocess, options, io)
      const metric = chosen.map((m) => m.name)
      const { batch, threads, minAccuracy } = options
      const run = { ...device, batch, reference, load: { threads } }
      const plan = await samplePlan(model, set, preprocess, Math.min(batch, set.size))
      const read = (own: SampleSet, onProgress: (done: number) => void) =>
        readings(model, own, preprocess, gauges, { ...run, plan, onProgress })
      const watched = async (samples: number, work: (onProgress: (done: number) => void) => Promise<void>) => {
        const progress = io.progress('eval', samples)
        try {
          await work((done) => progress.update(done))
        } finally {
          progress.end()
        }
      }
      return {
        facts: () => ({
          ...{ model: fingerprint(model), reference: reference ? fingerprint(reference) : null },
          ...{ data: set.contentHash(), batch, metric, preprocess: preprocess ?? null },
          ...{ device: device.executor.device.id, minAccuracy: minAccuracy ?? null },
        }),
        shared: {
          ...{ path, things, metrics: metric, gauges, shown, minAccuracy },
          data: { name, classes, classNames, notes },
        },
        items: Math.ceil(set.size / batch),
        async whole() {
          const tally = new Tally(chosen, gauges)
          await watched(set.size, async (onProgress) => {
            for await (const reading of read(set, onProgress)) tally.add(reading)
          })
          return tally.result()
        },
        async share({ from, to }, done, keep) {
          const results = [...done]
          const own = samplesBetween(set, (from + done.length) * batch, to * batch)
          if (!own) return results
          await watched(own.size, async (onProgress) => {
            for await (const item of inItems(read(own, onProgress), batch)) {
              results.push(packReadings(item, gauges))
              await keep(results)
            }
          })
          return results
        },
      }
    }),
})

async function shownInputs(
  model: Model,
  set: SampleSet,
  preprocess: Preprocess | undefined,
  { show = 0, out = 'seen' }: { readonly show?: number | undefined; readonly out?: string | undefined },
  io: CommandIO,
): Promise<readonly ShownInput[]> {
  const { showInputs } = await import('../data/show-inputs.ts')
  const pictures = await showInputs(model, set, preprocess, show, out)
  const low = pictures.reduce((a, p) => Math.min(a, p.low), Number.POSITIVE_INFINITY)
  const high = pictures.reduce((a, p) => Math.max(a, p.high), Number.NEGATIVE_INFINITY)
  const mean = pictures.reduce((sum, p) => sum + p.mean, 0) / pictures.length
  io.log(`${pictures.length} pictures in ${out}: numbers from ${number(low)} to ${number(high)}, mean ${number(mean)}`)
  return pictures
}

/** A line for each output, and the table behind it. */
function described(
  [name, { value, details, table: rows, outputs }]: readonly [string, MetricResult],
  width: number,
): string {
  const figures = Object.entries(details ?? {}).flatMap(([k, v]) =>
    typeof v === 'number' ? [`${k} ${number(v)}`] : [],
  )
  const head = [`${name} ${number(value)}`, ...figures].join('  ')
  const align = `l${'r'.repeat((rows?.[0]?.length ?? 1) - 1)}`
  const body = rows
    ? [
        table(
          rows.map((r) => [...r]),
          align,
          width,
        ),
      ]
    : []
  return [head, ...body, ...Object.entries(outputs ?? {}).map((m) => `  ${described(m, width)}`)].join('\n')
}

const number = (x: number): string => (Number.isInteger(x) ? String(x) : x.toPrecision(5))

const SHOWN = 12

/** `0 cat, 1 dog`: the class of each output. */
function listed(names: readonly string[]): string {
  const first = names.slice(0, SHOWN).map((name, i) => `${i} ${name}`)
  return names.length > SHOWN ? `${first.join(', ')}, ... (--json shows all)` : first.join(', ')
}
