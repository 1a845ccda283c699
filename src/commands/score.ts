/** `mnc score`: storage and operations against a reference network, by the MicroNet Challenge's rules. */
import { probeOptions } from '../runtime/probe-options.ts'
import { sizeOptions } from '../samples/size-options.ts'
import { type ScoreReport, scoreOptions } from '../score/report.ts'
import { defineCommand } from './define-command.ts'
import { openModel } from './open-model.ts'
import { bigNumber, table } from './table.ts'

export const score = defineCommand({
  name: 'score',
  summary: "Count a model's storage and operations by the rules of the MicroNet Challenge",
  arguments: [{ name: 'MODEL', description: 'An .onnx file, its text form, or -' }],
  options: { ...scoreOptions, ...sizeOptions, ...probeOptions },
  examples: ['mnc score student.onnx', 'mnc score student.onnx --accumulator adder-tree --float-bits 16 --json'],
  async run([path = ''], { dim, inputShape, probeSeconds: _, ...options }, io) {
    const { startProbing } = await import('../runtime/isolated/engine.ts')
    startProbing()
    const { score } = await import('../score/score.ts')
    const { MncError } = await import('../base/errors.ts')
    const { recordSizes } = await import('../samples/input-shapes.ts')
    const model = await openModel(path, io)
    recordSizes([model], { dim, inputShape })
    const report = await score(model, options).catch((error: unknown) => {
      throw error instanceof MncError && error.blame === 'model' ? error.inFile(path) : error
    })
    io.result(report, (width) => describe(report, width))
  },
})

function describe(r: ScoreReport, width: number): string {
  const layers = r.layers.map((l) => [
    ...[l.name, l.op, bigNumber(l.macs), l.weights.toLocaleString('en'), l.nonZeros.toLocaleString('en')],
    ...[l.weightBits ?? '', l.activationBits ?? ''].map(String),
    ...[l.storage, l.mults, l.adds.fp32, l.adds.adderTree].map(amount),
  ])
  const heads = ['layer', 'op', 'MACs', 'weights', 'non-zero', 'W bits', 'A bits']
  const counts = ['storage', 'mults', 'adds fp32', 'adds tree']
  const totals = Object.entries(r.byAccumulator).map(([name, t]) => [
    ...[`${name}${name === r.accumulator ? ' *' : ''}`, bigNumber(r.storage), bigNumber(t.mults), bigNumber(t.adds)],
    ...[t.storageScore, t.operationsScore, t.score].map((x) => x.toFixed(6)),
  ])
  if (r.freebie) {
    const f = r.freebie
    const scores = [f.storageScore, f.operationsScore, f.score].map((x) => x.toFixed(6))
    totals.push(['16-bit freebie', bigNumber(f.storage), bigNumber(f.mults), bigNumber(f.adds), ...scores])
  }
  const totalHeads = ['accumulator', 'storage', 'mults', 'adds', 'storage / P0', 'operations / O0', 'score']
  const all = Object.entries(r.byReference).map(([name, s]) => `${name} ${s.toFixed(6)}`)
  return [
    table([[...heads, ...counts], ...layers], 'llrrrrrrrrr', width),
    '',
    `parameters ${r.parameters.toLocaleString('en')}, MACs ${bigNumber(r.macs)}; in 32-bit parameters and operations:`,
    table([totalHeads, ...totals], 'lrrrrrr', width),
    '',
    `score (${r.reference}, ${r.accumulator}, ${r.floatBits}-bit floats): ${r.score.toFixed(6)}`,
    `with ${r.accumulator} under each reference: ${all.join(', ')}`,
  ].join('\n')
}

/** Whole numbers as they are, fractions to two places. */
const amount = (x: number): string => x.toLocaleString('en', { maximumFractionDigits: 2 })
