/** `mnc info`: what is in a model. */
import type { LayerInfo, ModelInfo, PortInfo } from '../analysis/model-info.ts'
import { defineCommand } from './define-command.ts'
import { bigNumber, percent, table } from './table.ts'

export const info = defineCommand({
  name: 'info',
  summary: "Show a model's inputs, operators, parameters, MACs, and each layer's sparsity and bits",
  arguments: [{ name: 'MODEL', description: 'An .onnx file, its text form, or -' }],
  options: {},
  examples: ['mnc info student.onnx', 'mnc info student.onnx --json'],
  async run([path = ''], _, io) {
    const { readModel } = await import('../graph/codec.ts')
    const { fileBytes, modelInfo } = await import('../analysis/model-info.ts')
    const model = await readModel(path)
    const result = await modelInfo(model, { bytes: await fileBytes(model, path), warn: (m) => io.log(m) })
    io.result(result, () => describe(result))
  },
})

function describe(m: ModelInfo): string {
  const port = (p: PortInfo): string =>
    `${p.name} ${p.type ?? '?'}[${p.dims?.map((d) => d ?? '?').join(', ') ?? '...'}]`
  const ops = Object.entries(m.ops).map(([op, n]) => `${op} ${n}`)
  const facts = [
    ['opset', `${m.opset} (IR ${m.irVersion})`],
    ['inputs', m.inputs.map(port).join('; ')],
    ['outputs', m.outputs.map(port).join('; ')],
    ['nodes', `${m.nodes}: ${ops.join(', ')}`],
    ['parameters', m.parameters.toLocaleString('en')],
    ['MACs', m.macs === null ? '?' : bigNumber(m.macs)],
    ['bytes', m.bytes.toLocaleString('en')],
  ]
  const rows = m.layers.map((l: LayerInfo) => [
    ...[l.name, l.op, l.weights.toLocaleString('en'), percent(l.sparsity)],
    ...[String(l.weightBits), String(l.activationBits), l.macs === null ? '?' : bigNumber(l.macs)],
  ])
  const heads = ['layer', 'op', 'weights', 'zero', 'W bits', 'A bits', 'MACs']
  return `${table(facts, 'll')}\n${rows.length > 0 ? `\n${table([heads, ...rows], 'llrrrrr')}\n` : ''}`
}
