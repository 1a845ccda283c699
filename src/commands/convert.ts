/** `mnc convert`: reads a model and writes it without loss, in another opset, form or place, or with sizes in its types. */
import { sizeOptions } from '../samples/size-options.ts'
import { defineCommand, output } from './define-command.ts'

export const convert = defineCommand({
  name: 'convert',
  summary: 'Rewrite a model without loss: another opset, fixed sizes, external data, text',
  arguments: [{ name: 'MODEL', description: 'An .onnx file, its text form, or -' }],
  options: {
    output,
    dim: { ...sizeOptions.dim, description: 'Sizes for symbolic dims, wherever they occur' },
    inputShape: {
      ...sizeOptions.inputShape,
      description: `${sizeOptions.inputShape.description}; written into the file`,
    },
    opset: { type: 'integer', minimum: 7, maximum: 25, description: 'Upgrade the model to this opset' },
    externalData: { type: 'boolean', default: false, description: 'Put large tensors into OUT.data next to the model' },
    text: { type: 'boolean', default: false, description: 'Write the text form, for reading and diffing' },
  },
  examples: [
    'mnc convert old.onnx --opset 21 -o new.onnx',
    'mnc convert model.onnx --text -o -',
    'mnc convert model.onnx --dim N=1 -o fixed.onnx',
  ],
  async run([path = ''], { output, opset, dim, inputShape, externalData, text }, io) {
    const { usageError } = await import('../base/errors.ts')
    if (output === undefined) throw usageError('mnc convert needs -o OUT')
    if (text && externalData) throw usageError('--text and --external-data cannot be combined')
    if (externalData && output === '-')
      throw usageError('--external-data needs an output file to put the data next to, not -o -')
    const { readModel, writeModel } = await import('../codec/codec.ts')
    const model = await readModel(path)
    if (opset !== undefined) {
      const { upgradeModelTo } = await import('../ops/raise-opset.ts')
      const { refusalWarning } = await import('../runtime/isolated/engine-refusal.ts')
      if (opset < model.opset)
        throw usageError(`${path} is already at opset ${model.opset}`, 'the opset can be raised, not lowered')
      const warning = upgradeModelTo(model, opset) ? await refusalWarning(model) : null
      if (warning) io.log(warning)
    }
    if (dim || inputShape) {
      const { declareShapes } = await import('../samples/declared-shapes.ts')
      await declareShapes(model, { dim, inputShape })
    }
    if (text) {
      const { printModel } = await import('../codec/text.ts')
      const { writeFileAtomic } = await import('../base/files.ts')
      await writeFileAtomic(output, printModel(model, { tensors: 'full' }))
    } else await writeModel(model, output, { externalData })
    io.wrote(output)
  },
})
