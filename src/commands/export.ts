/** `mnc export`: a trained graph to a file that deploys. */

import type { Explanation } from '../export/explain.ts'
import type { ExportReport } from '../export/export-model.ts'
import { exportOptions } from '../export/export-options.ts'
import { defineCommand, output } from './define-command.ts'
import { outputBeside } from './pass.ts'
import { percent, table } from './table.ts'

export const exportCommand = defineCommand({
  name: 'export',
  summary: 'Write a deployable file: packed 4-bit sparse, dense INT4, or INT8 for integer kernels',
  arguments: [{ name: 'MODEL', description: 'An .onnx file, its text form, or -' }],
  options: {
    ...exportOptions,
    explain: {
      type: 'boolean',
      default: false,
      description:
        'Say how each tensor is stored, which layers onnxruntime runs as integer kernels, and why not the rest',
    },
    output,
  },
  examples: [
    'mnc export student.onnx --format packed -o student.packed.onnx',
    'mnc export student.onnx --format int8 --packed-weights --explain',
  ],
  async run([path = ''], { explain, output, ...options }, io) {
    const { readModel, writeModel } = await import('../graph/codec.ts')
    const { exportModel } = await import('../export/export-model.ts')
    const source = await readModel(path)
    const { format } = options
    const { model, report } = await exportModel(source, options, { log: (message) => io.log(message) })
    const { explainKernels } = await import('../export/explain.ts')
    const kernels = explain ? await explainKernels(model) : null
    const out = output ?? outputBeside(path, format)
    await writeModel(model, out)
    io.log(summaryOf(report))
    if (kernels) io.log(`${storageTable(report)}\n\n${kernelTable(kernels)}`)
    io.wrote(out, { ...report, ...(kernels && { kernels }) })
  },
})

function summaryOf(r: ExportReport): string {
  const per = r.weights > 0 ? `, ${r.bytesPerWeight.toFixed(3)} bytes a weight with all of the decode` : ''
  return `${r.format}: ${r.bytes.toLocaleString('en')} bytes, ${r.weights.toLocaleString('en')} weights${per}`
}

function storageTable(r: ExportReport): string {
  const rows = r.tensors.map((t) => [
    ...[t.name, t.dims.join('x'), percent(1 - t.nonZeros / t.elements)],
    ...[String(t.bits), t.storage, t.bytes.toLocaleString('en')],
  ])
  return table([['weight', 'shape', 'zero', 'bits', 'stored', 'bytes'], ...rows], 'lrrrlr')
}

function kernelTable(k: Explanation): string {
  const rows = k.layers.map((l) => [l.layer, l.op, l.kernel ?? 'float', l.reason])
  const ops = Object.entries(k.ops).map(([op, n]) => `${op} ${n}`)
  const left = k.unfolded.length > 0 ? `\nrun on every call though constant: ${k.unfolded.join(', ')}` : ''
  return `${table([['layer', 'op', 'kernel', 'why not integer'], ...rows], 'llll')}\n\nonnxruntime makes: ${ops.join(', ')}${left}`
}
