/** `mnc info`: what is in a model, and where it comes from. */
import type { LayerInfo, ModelInfo, PortInfo } from '../analysis/model-info.ts'
import type { Preprocess } from '../data/preprocess.ts'
import type { HistoryEntry } from '../pass-manager/history.ts'
import { probeOptions } from '../runtime/probe-options.ts'
import { sizeOptions } from '../samples/size-options.ts'
import { defineCommand } from './define-command.ts'
import { openModel } from './open-model.ts'
import { bigNumber, describeReaders, percent, table, widthOf } from './table.ts'

export const info = defineCommand({
  name: 'info',
  summary: "Show a model's inputs, operators, parameters, MACs, and each layer's sparsity and bits",
  arguments: [{ name: 'MODEL', description: 'An .onnx file, its text form, or -' }],
  options: { ...sizeOptions, ...probeOptions },
  examples: ['mnc info student.onnx', 'mnc info student.onnx --json'],
  async run([path = ''], { dim, inputShape }, io) {
    const { startProbing } = await import('../runtime/isolated/engine.ts')
    startProbing()
    const { fileBytes, modelInfo } = await import('../analysis/model-info.ts')
    const { recordSizes } = await import('../samples/input-shapes.ts')
    const model = await openModel(path, io)
    recordSizes([model], { dim, inputShape })
    const result = await modelInfo(model, { bytes: await fileBytes(model, path), warn: io.once() })
    const { readPreprocess } = await import('../data/preprocess.ts')
    const { scaleWarning } = await import('../data/pixel-scale.ts')
    const { readSampleRate } = await import('../graph/sample-rate.ts')
    const fed = { preprocess: readPreprocess(model), sampleRate: readSampleRate(model) }
    const odd = fed.preprocess && scaleWarning(fed.preprocess)
    if (odd) io.log(`note: ${odd}`)
    io.result({ ...result, ...fed }, (width) => describe(result, fed, width))
  },
})

interface Fed {
  readonly preprocess: Preprocess | null
  readonly sampleRate: number | null
}

function describe(m: ModelInfo, { preprocess, sampleRate }: Fed, width: number): string {
  const port = (p: PortInfo): string =>
    `${p.name} ${p.type ?? '?'}[${p.dims?.map((d) => d ?? '?').join(', ') ?? '...'}]`
  const ops = Object.entries(m.ops).map(([op, n]) => `${op} ${n}`)
  const { nodes, tensors, elements } = m.frozen
  const facts = [
    ['opset', `${m.opset} (IR ${m.irVersion})`],
    ['inputs', m.inputs.map(port).join('; ')],
    ['outputs', m.outputs.map(port).join('; ')],
    ...(preprocess ? [['pixels', describePixels(preprocess)]] : []),
    ...(sampleRate === null ? [] : [['sound', `at ${sampleRate} Hz`]]),
    ['nodes', `${m.nodes}: ${ops.join(', ')}`],
    ['parameters', m.parameters.toLocaleString('en')],
    ['MACs', m.macs === null ? '?' : bigNumber(m.macs)],
    ['bytes', m.bytes.toLocaleString('en')],
    ['read by', describeReaders(m.readers)],
    ...(m.classes
      ? [
          [
            'classes',
            `${m.classes.length}: ${m.classes.slice(0, 12).join(', ')}${m.classes.length > 12 ? ', ...' : ''}`,
          ],
        ]
      : []),
    ...(nodes + tensors > 0
      ? [['frozen', `${nodes} nodes, ${tensors} tensors (${elements.toLocaleString('en')} elements)`]]
      : []),
  ]
  const parts = [table(facts, 'll', width)]
  if (m.layers.length > 0) parts.push(layerTable(m.layers, width))
  if (m.history.length > 0) parts.push(`made by\n${table(m.history.map(historyRow), 'llll', width)}`)
  return parts.join('\n\n')
}

/** `(pixel / 255 - mean) / std`, with the numbers. */
function describePixels({ scale, mean, std, size, layout, resize, replicateGrey }: Preprocess): string {
  const more = [`${size.join('x')}`, layout, ...(resize ? [resize] : []), ...(replicateGrey ? ['grey repeated'] : [])]
  return `(pixel / ${scale} - mean) / std: mean ${mean.join(' ')}, std ${std.join(' ')}; ${more.join(', ')}`
}

function layerTable(layers: readonly LayerInfo[], width: number): string {
  const number = (n: number | null): string => (n === null ? '?' : bigNumber(n))
  const rows = layers.map((l) => [
    ...[l.frozen ? `${l.name} (frozen)` : l.name, l.op, l.shape.join('x'), l.weights.toLocaleString('en')],
    ...[percent(l.sparsity), widthOf(l), String(l.activationBits), number(l.macs)],
    l.bytes.toLocaleString('en'),
  ])
  const sum = (of: (l: LayerInfo) => number): number => layers.reduce((n, l) => n + of(l), 0)
  const weights = sum((l) => l.weights)
  const mean = (of: (l: LayerInfo) => number, weight: (l: LayerInfo) => number): number =>
    sum((l) => of(l) * weight(l)) / Math.max(1, sum(weight))
  const bits = (x: number): string => String(Number(x.toFixed(2)))
  const macs = layers.some((l) => l.macs === null) ? null : sum((l) => l.macs!)
  const byWeights = (l: LayerInfo): number => l.weights
  const total = [
    ...['all', '', '', weights.toLocaleString('en'), percent(mean((l) => l.sparsity, byWeights))],
    bits(mean((l) => l.weightBits, byWeights)),
    bits(
      mean(
        (l) => l.activationBits,
        (l) => l.macs ?? l.weights,
      ),
    ),
    ...[number(macs), sum((l) => l.bytes).toLocaleString('en')],
  ]
  const heads = ['layer', 'op', 'shape', 'weights', 'zero', 'W bits', 'A bits', 'MACs', 'bytes']
  return table([heads, ...rows, total], 'lllrrrrrr', width)
}

function historyRow({ pass, options, input, metrics = {} }: HistoryEntry): string[] {
  const shown = (o: object): string =>
    Object.entries(o)
      .map(([k, v]) => `${k}=${typeof v === 'string' ? v : JSON.stringify(v)}`)
      .join(' ')
  return ['', input ?? '', pass, [shown(options), shown(metrics)].filter(Boolean).join(' -> ')]
}
