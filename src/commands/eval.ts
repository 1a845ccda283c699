/** `mnc eval`: accuracy of a classifier. */
import { evaluateOptions } from '../evaluate/evaluate-options.ts'
import { probeOptions } from '../runtime/probe-options.ts'
import { sizeOptions } from '../samples/size-options.ts'
import { defineCommand } from './define-command.ts'
import { openModel } from './open-model.ts'
import { imageOptions, openFor } from './pixel-options.ts'
import { percent } from './table.ts'

export const evalCommand = defineCommand({
  name: 'eval',
  summary: 'Measure the accuracy of a classifier on a data set',
  arguments: [{ name: 'MODEL', description: 'An .onnx file, its text form, or -' }],
  options: {
    ...imageOptions,
    ...sizeOptions,
    ...evaluateOptions,
    ...probeOptions,
  },
  examples: [
    'mnc eval student.onnx --data cifar100:data',
    'mnc eval net.onnx --data cifar10:data --mean 0.5 --std 0.5',
  ],
  async run([path = ''], options, io) {
    const { checkMeasured, evaluate } = await import('../evaluate/evaluate.ts')
    const { announceDevice } = await import('../runtime/devices/device.ts')
    const device = await announceDevice(options.device, (line) => io.log(line))
    const { recordSizes } = await import('../samples/input-shapes.ts')
    const model = await openModel(path, io)
    recordSizes([model], options)
    const { data, preprocess } = await openFor(model, options.data, 'test', options, io)
    const set = options.limit === undefined ? data : data.take(options.limit)
    const { name, classes, classNames = null, notes } = set
    const things = preprocess ? 'images' : 'samples'
    io.log(`data: ${name}, ${set.size} ${things} of ${classes} classes${classNames ? `: ${listed(classNames)}` : ''}`)
    const progress = io.progress('eval', set.size)
    const result = await evaluate(model, set, preprocess, {
      ...device,
      batch: options.batch,
      load: { threads: options.threads },
      onProgress: (done) => progress.update(done),
    })
    progress.end()
    checkMeasured(result, path)
    io.result({ ...result, data: { name, classes, classNames, notes } }, () => {
      const { samples, top1, top5, loss, imagesPerSecond } = result
      const speed = `${imagesPerSecond.toFixed(0)} ${preprocess ? 'img' : 'samples'}/s`
      return `top-1 ${percent(top1, 2)}  top-5 ${percent(top5, 2)}  loss ${loss.toFixed(4)}  ${samples} ${things}  ${speed}`
    })
    if (options.minAccuracy !== undefined && result.top1 < options.minAccuracy) {
      const { MncError } = await import('../base/errors.ts')
      const message = `top-1 is ${percent(result.top1, 2)}, below --min-accuracy ${percent(options.minAccuracy)}`
      throw new MncError(message, { code: 'min-accuracy', blame: 'gate', file: path })
    }
  },
})

const SHOWN = 12

/** `0 cat, 1 dog`: the class of each output. */
function listed(names: readonly string[]): string {
  const first = names.slice(0, SHOWN).map((name, i) => `${i} ${name}`)
  return names.length > SHOWN ? `${first.join(', ')}, ... (--json shows all)` : first.join(', ')
}
