/** `mnc bn-update`: re-estimates running statistics by forward passes over the training data. */
import { probeOptions } from '../runtime/probe-options.ts'
import { sizeOptions } from '../samples/size-options.ts'
import { bnUpdateOptions } from '../train/bn-update-options.ts'
import { defineCommand, output } from './define-command.ts'
import { outputBeside } from './pass.ts'
import { imageOptions, openFor } from './pixel-options.ts'

export const bnUpdate = defineCommand({
  name: 'bn-update',
  summary: 'Re-estimate the running statistics of BatchNormalization',
  arguments: [{ name: 'MODEL', description: 'An .onnx file, its text form, or -' }],
  options: {
    ...imageOptions,
    ...sizeOptions,
    ...bnUpdateOptions,
    ...probeOptions,
    output,
  },
  examples: ['mnc bn-update student.w4a4.onnx --data cifar100:data --epochs 10 -o student.bn.onnx'],
  async run([path = ''], options, io) {
    const { fingerprint, readModel, writeModel } = await import('../codec/codec.ts')
    const { updateBatchNorm } = await import('../train/loop/bn-update.ts')
    const { announceDevice } = await import('../runtime/devices/device.ts')
    const device = await announceDevice(options.device, (line) => io.log(line))
    const { recordHistory } = await import('../pass-manager/history.ts')
    const { recordSizes } = await import('../samples/input-shapes.ts')
    const model = await readModel(path)
    recordSizes([model], options)
    const { data, preprocess } = await openFor(model, options.data, 'train', options, io)
    const input = fingerprint(model)
    const progress = io.progress('bn-update', 1)
    const { epochs, batch, augment, workers } = options
    const layers = await updateBatchNorm(model, {
      data: options.limit === undefined ? data : data.take(options.limit),
      ...{ preprocess, epochs, batch, augment, workers, seed: io.seed },
      ...device,
      onWarning: (line) => io.log(line),
      onProgress: (done, total) => progress.update(done / total),
    })
    progress.end()
    const done = { data: data.name, epochs, batch, augment, seed: io.seed }
    recordHistory(model, { pass: 'bn-update', options: done, input, metrics: { layers } })
    const out = options.output ?? outputBeside(path, 'bn')
    await writeModel(model, out)
    io.wrote(out, { layers })
  },
})
