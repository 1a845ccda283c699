/** `mnc eval`: accuracy of a classifier, and other metrics. */
import { MncError, usageError } from '../base/errors.ts'
import { evaluateOptions, metricOptions, showOptions } from '../evaluate/evaluate-options.ts'
import type { MetricResult } from '../evaluate/measure.ts'
import { accuracy } from '../evaluate/metrics/accuracy.ts'
import { metricNamed } from '../evaluate/metrics/chosen.ts'
import { probeOptions } from '../runtime/probe-options.ts'
import { sizeOptions } from '../samples/size-options.ts'
import { defineCommand } from './define-command.ts'
import { openModel } from './open-model.ts'
import { imageOptions, openFor } from './pixel-options.ts'
import { percent, table } from './table.ts'

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
  },
  examples: [
    'mnc eval student.onnx --data cifar100:data',
    'mnc eval net.onnx --data cifar10:data --mean 0.5 --std 0.5',
    'mnc eval net.onnx --data npy:DIR --metric mse,psnr',
    'mnc eval net.onnx --data folder:DIR --show 8 --out seen',
  ],
  async run([path = ''], options, io) {
    const { guessingWarning } = await import('../data/fed-wrongly.ts')
    const { accuracyOf, checkMeasured } = await import('../evaluate/evaluate.ts')
    const { chosenMetrics, measure } = await import('../evaluate/measure.ts')
    const { announceDevice } = await import('../runtime/devices/device.ts')
    for (const name of options.metric ?? []) metricNamed(name)
    if (options.minAccuracy !== undefined && !(options.metric ?? [accuracy.name]).includes(accuracy.name))
      throw usageError('--min-accuracy needs the accuracy', 'add --metric accuracy')
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
    if (options.out !== undefined && options.show === undefined)
      throw usageError('--out is for --show N', 'add --show 8')
    const shown = options.show === undefined ? null : await shownInputs(options.show)
    const progress = io.progress('eval', set.size)
    const chosen = chosenMetrics(model, set, options.metric, reference !== undefined)
    const measured = await measure(model, set, preprocess, chosen, {
      ...{ ...device, batch: options.batch, reference, load: { threads: options.threads } },
      onProgress: (done) => progress.update(done),
    })
    progress.end()
    const { samples, samplesPerSecond } = measured
    const result = accuracyOf(measured)
    if (result) checkMeasured(result, path)
    const { accuracy: _, ...others } = measured.metrics
    const facts = {
      ...(result ?? { samples, imagesPerSecond: samplesPerSecond }),
      ...(Object.keys(others).length > 0 && { metrics: others }),
    }
    const guess = result && set.isLabelled ? guessingWarning(result.top1, set.classes, result.samples) : null
    if (guess) io.log(`note: ${guess}`)
    io.result({ ...facts, data: { name, classes, classNames, notes }, ...(shown && { shown }) }, () => {
      const speed = `${samples} ${things}  ${samplesPerSecond.toFixed(0)} ${preprocess ? 'img' : 'samples'}/s`
      const scores = result
        ? `top-1 ${percent(result.top1, 2)}  top-5 ${percent(result.top5, 2)}  loss ${result.loss.toFixed(4)}  `
        : ''
      return [`${scores}${speed}`, ...Object.entries(others).map(described)].join('\n')
    })
    if (options.minAccuracy === undefined) return
    if (!result || result.top1 >= options.minAccuracy) return
    const message = `top-1 is ${percent(result.top1, 2)}, below --min-accuracy ${percent(options.minAccuracy)}`
    throw new MncError(message, { code: 'min-accuracy', blame: 'gate', file: path })

    async function shownInputs(count: number) {
      const { showInputs } = await import('../data/show-inputs.ts')
      const folder = options.out ?? 'seen'
      const pictures = await showInputs(model, set, preprocess, count, folder)
      const lows = pictures.map((p) => p.low)
      io.log(
        `${pictures.length} pictures in ${folder}: numbers from ${number(Math.min(...lows))} to ${number(Math.max(...pictures.map((p) => p.high)))}, mean ${number(pictures.reduce((sum, p) => sum + p.mean, 0) / pictures.length)}`,
      )
      return pictures
    }
  },
})

/** A line for each output, and the table behind it. */
function described([name, { value, details, table: rows, outputs }]: readonly [string, MetricResult]): string {
  const figures = Object.entries(details ?? {}).flatMap(([k, v]) =>
    typeof v === 'number' ? [`${k} ${number(v)}`] : [],
  )
  const head = [`${name} ${number(value)}`, ...figures].join('  ')
  const more = Object.entries(outputs ?? {}).map(([output, m]) => `  ${described([output, m])}`)
  return [
    head,
    ...(rows
      ? [
          table(
            rows.map((r) => [...r]),
            `l${'r'.repeat(rows[0]!.length - 1)}`,
          ),
        ]
      : []),
    ...more,
  ].join('\n')
}

const number = (x: number): string => (Number.isInteger(x) ? String(x) : x.toPrecision(5))

const SHOWN = 12

/** `0 cat, 1 dog`: the class of each output. */
function listed(names: readonly string[]): string {
  const first = names.slice(0, SHOWN).map((name, i) => `${i} ${name}`)
  return names.length > SHOWN ? `${first.join(', ')}, ... (--json shows all)` : first.join(', ')
}
