/** `mnc export`: turns a trained graph into a deployable file. */

import { optionsIn, parseOptions } from '../base/options.ts'
import type { Explanation } from '../export/explain.ts'
import type { ExportReport } from '../export/export-report.ts'
import type { Picked } from '../export/targets/export-for.ts'
import { targetOptions } from '../export/targets/target-options.ts'
import { probeOptions } from '../runtime/probe-options.ts'
import { calibrate, calibrationTable, recordGivenSizes } from './calibration.ts'
import { exportedNote } from './cut-off-note.ts'
import { defineCommand, output } from './define-command.ts'
import { outputBeside } from './pass.ts'
import { describeReaders, percent, table } from './table.ts'

/** `--batch` is that of the target. */
const { batch: _, ...sampleOptions } = calibrationTable

export const exportCommand = defineCommand({
  name: 'export',
  summary: 'Write a deployable file: for a target, or in a format',
  arguments: [{ name: 'MODEL', description: 'An .onnx file, its text form, or -' }],
  options: {
    ...targetOptions,
    names: {
      type: 'boolean',
      default: false,
      description: 'With short names: write OUT.names.json, with which check --layers finds pairs again',
    },
    explain: {
      type: 'boolean',
      default: false,
      description:
        'Show how each tensor is stored, which layers onnxruntime runs in integer kernels, and why the others do not',
    },
    ...sampleOptions,
    ...probeOptions,
    output,
  },
  examples: [
    'mnc export trained.onnx --target size -o deploy.onnx',
    'mnc export trained.onnx --format packed -o trained.packed.onnx',
    'mnc export student.onnx --target fp16 --data cifar100:DIR',
    'mnc export trained.onnx --format int8 --packed-weights --explain',
  ],
  async run([path = ''], options, io) {
    const { explain, output, names, data } = options
    const { batch: _, ...sampling } = options
    const { allowLarger, ...given } = parseOptions(targetOptions, optionsIn(targetOptions, options), 'export')
    const { isText, readModel, writeModel } = await import('../codec/codec.ts')
    const { describePicked, exportFor } = await import('../export/targets/export-for.ts')
    const source = await readModel(path)
    const { gateSize, modelBytes } = await import('../export/gate-size.ts')
    const { fileBytes } = await import('../analysis/model-info.ts')
    const { describeDeclined } = await import('../layers/left-weights.ts')
    await recordGivenSizes(source, options, 'export')
    const exported = await exportFor(source, given, {
      ...{ log: (message) => io.log(message), seed: io.seed },
      ...(data !== undefined && { calibration: () => calibrate(source, data, sampling, { name: 'export', io }) }),
    })
    const { model, report, picked } = exported
    const inputBytes = (isText(path) ? undefined : await fileBytes(source, path)) ?? modelBytes(source)
    const { marks } = await import('../graph/marks.ts')
    const earlier = marks.export.get(source)
    gateSize(report, { inputBytes, earlier, file: path }, allowLarger, (m) => io.log(m))
    const { readersOf } = await import('../analysis/readers.ts')
    const { explainKernels } = await import('../export/explain.ts')
    const kernels = explain ? await explainKernels(model) : null
    const out = output ?? outputBeside(path, picked?.target ?? report.format)
    await writeModel(model, out)
    if (names) {
      const { writeNames } = await import('../check/short-names.ts')
      await writeNames(out, exported.names)
    }
    if (picked) io.log(pickedText(describePicked(picked), picked))
    io.log(summaryOf(report))
    const readers = readersOf(model)
    io.log(`read by ${describeReaders(readers)}`)
    for (const line of report.costs) io.log(line)
    for (const line of describeDeclined('export', report)) io.log(line)
    if (report.inexact.length > 0) io.log(inexactLine(report))
    if (report.saturating.length > 0) io.log(await exportedNote(report.saturating))
    if (kernels) io.log((width) => `${storageTable(report, width)}\n\n${kernelTable(kernels, width)}`)
    io.wrote(out, { ...report, readers, ...(picked && { picked }), ...(kernels && { kernels }) })
  },
})

/** The form and why, and what was left out. */
function pickedText(chosen: string, picked: Picked): string {
  const left = picked.tried.filter((t) => t.refused !== null).map((t) => `  not ${t.form}: ${t.refused}`)
  return [chosen, ...left].join('\n')
}

function summaryOf(r: ExportReport): string {
  const per = r.weights > 0 ? `, ${r.bytesPerWeight.toFixed(3)} bytes per weight including the decoder` : ''
  return `${r.format}: ${r.bytes.toLocaleString('en')} bytes, ${r.weights.toLocaleString('en')} weights${per}`
}

/** One line: which layers, and why the first. */
function inexactLine({ inexact }: ExportReport): string {
  const [first, ...others] = inexact
  const named = others.slice(0, 2).map((l) => l.layer)
  const more = inexact.length - 1 - named.length
  const rest = [...named, ...(more > 0 ? [`${more} more`] : [])].map((name) => `, ${name}`).join('')
  const count = inexact.length === 1 ? '1 layer' : `${inexact.length} layers`
  return `${count} may differ from the graph by one level of the output: ${first!.layer} (${first!.reason})${rest}`
}

function storageTable(r: ExportReport, width: number): string {
  const rows = r.tensors.map((t) => [
    ...[t.name, t.dims.join('x'), percent(1 - t.nonZeros / t.elements)],
    ...[String(t.bits), t.storage, t.bytes.toLocaleString('en')],
  ])
  return table([['weight', 'shape', 'zero', 'bits', 'stored', 'bytes'], ...rows], 'lrrrlr', width)
}

function kernelTable(k: Explanation, width: number): string {
  const rows = k.layers.map((l) => [l.layer, l.op, l.kernel ?? 'float', l.reason])
  const ops = Object.entries(k.ops).map(([op, n]) => `${op} ${n}`)
  const left = k.unfolded.length > 0 ? `\nrun on every call though constant: ${k.unfolded.join(', ')}` : ''
  const heads = ['layer', 'op', 'kernel', 'why not integer']
  return `${table([heads, ...rows], 'llll', width, true)}\n\nonnxruntime makes: ${ops.join(', ')}${left}`
}
