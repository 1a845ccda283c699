/** `mnc diff`: what a pass, training or an export changed in a model. */
import type { NodeDiff } from '../analysis/diff-nodes.ts'
import type { Change, LayerChange, LayerFacts, TensorDiff } from '../analysis/diff-weights.ts'
import type { ModelDiff, Pair } from '../analysis/model-diff.ts'
import { probeOptions } from '../runtime/probe-options.ts'
import { sizeOptions } from '../samples/size-options.ts'
import { defineCommand } from './define-command.ts'
import { openModel } from './open-model.ts'
import { bigNumber, percent, table, widthOf } from './table.ts'

/** Nodes and tensors are shown one by one up to this many, or with --all. */
const SHOWN = 12

export const diff = defineCommand({
  name: 'diff',
  summary: 'Show how two models differ: nodes, weights, sparsity, bits and size',
  arguments: [
    { name: 'A', description: 'The model before' },
    { name: 'B', description: 'The model after' },
  ],
  options: {
    all: { type: 'boolean', default: false, description: 'List every node and tensor, however many' },
    ...sizeOptions,
    ...probeOptions,
  },
  examples: ['mnc diff student.onnx student.prune.onnx', 'mnc diff trained.onnx deploy.onnx --json'],
  async run([before = '', after = ''], { all, dim, inputShape }, io) {
    const { startProbing } = await import('../runtime/isolated/engine.ts')
    startProbing()
    const { fileBytes } = await import('../analysis/model-info.ts')
    const { recordSizes } = await import('../samples/input-shapes.ts')
    const { diffModels } = await import('../analysis/model-diff.ts')
    const [a, b] = [await openModel(before, io), await openModel(after, io)]
    recordSizes([a, b], { dim, inputShape })
    const bytes = { before: await fileBytes(a, before), after: await fileBytes(b, after) }
    const result = await diffModels(a, b, { bytes, warn: io.once() })
    io.result(result, (width) => describe(result, all ? Number.POSITIVE_INFINITY : SHOWN, width))
  },
})

function describe(d: ModelDiff, limit: number, width: number): string {
  const count = (n: number | null): string => (n === null ? '?' : n.toLocaleString('en'))
  const row = <T>(name: string, { before, after }: Pair<T>, show: (x: T) => string): string[] =>
    before === after ? [name, show(before)] : [name, `${show(before)} -> ${show(after)}`]
  const facts = [
    row('opset', d.opset, String),
    row('bytes', d.bytes, count),
    row('parameters', d.parameters, count),
    row('MACs', d.macs, (n) => (n === null ? '?' : bigNumber(n))),
    row('zero weights', d.sparsity, (s) => percent(s)),
    ['nodes', tally(d.nodes)],
    ['tensors', tally(d.tensors)],
    ...(d.metadata.length > 0 ? [['metadata', d.metadata.join(', ')]] : []),
  ]
  const parts = [d.identical ? 'the models are the same' : '', table(facts, 'll', width)]
  if (d.interface) parts.push(list('interface', linesOf(d.interface), Number.POSITIVE_INFINITY))
  parts.push(layerTable(d.layers, width), nodeList(d.nodes, limit), tensorList(d.tensors, limit))
  return parts.filter((p) => p !== '').join('\n\n')
}

const tally = (d: NodeDiff | TensorDiff): string =>
  `${d.same} the same, ${d.changed.length} changed, ${d.added.length} added, ${d.removed.length} removed`

function linesOf({ before, after }: Pair<readonly string[]>): string[] {
  return [
    ...before.filter((x) => !after.includes(x)).map((x) => `- ${x}`),
    ...after.filter((x) => !before.includes(x)).map((x) => `+ ${x}`),
  ]
}

function list(title: string, lines: readonly string[], limit: number): string {
  if (lines.length === 0) return ''
  const more = lines.length > limit ? [`  ... and ${lines.length - limit} more (--all)`] : []
  return [title, ...lines.slice(0, limit).map((l) => `  ${l}`), ...more].join('\n')
}

function layerTable(layers: readonly LayerChange[], width: number): string {
  if (layers.length === 0) return ''
  const arrow = (l: LayerChange, show: (f: LayerFacts) => string): string => {
    const [x, y] = [l.before && show(l.before), l.after && show(l.after)]
    return x === y ? (x ?? '') : `${x ?? 'none'} -> ${y ?? 'none'}`
  }
  const rows = layers.map((l) => [
    ...[l.name, l.op, l.shape.join('x'), arrow(l, (f) => percent(f.sparsity))],
    ...[arrow(l, widthOf), arrow(l, (f) => String(f.activationBits)), ...changeCells(l.change, l.rescaled)],
  ])
  const heads = ['layer', 'op', 'shape', 'zero', 'W bits', 'A bits', 'max change', 'relative']
  return table([heads, ...rows], 'lllrrrrr', width)
}

function changeCells(c: Change | null, rescaled = false): string[] {
  if (!c) return ['', '']
  if (rescaled) return ['', 'rescaled']
  if (c.maxChange === 0) return ['0', '0']
  return [c.maxChange.toPrecision(3), c.relativeChange === null ? '' : percent(c.relativeChange, 2)]
}

function nodeList(d: NodeDiff, limit: number): string {
  const lines = [
    ...d.removed.map((n) => `- ${n.op} ${n.name}`),
    ...d.added.map((n) => `+ ${n.op} ${n.name}`),
    ...d.changed.map((n) => `~ ${n.op} ${n.name}  ${n.changes.join('; ')}`),
  ]
  return list('nodes', lines, limit)
}

function tensorList(d: TensorDiff, limit: number): string {
  const typed = (t: { type: string; dims: readonly number[] }): string => `${t.type}[${t.dims.join(',')}]`
  const lines = [
    ...d.removed.map((t) => `- ${t.name} ${typed(t)}`),
    ...d.added.map((t) => `+ ${t.name} ${typed(t)}`),
    ...d.changed.map((t) => {
      const kind = typed(t.before) === typed(t) ? typed(t) : `${typed(t.before)} -> ${typed(t)}`
      const [max, relative] = changeCells(t.change)
      return `~ ${t.name} ${kind}${t.change ? `  max change ${max}, relative ${relative}` : ''}`
    }),
  ]
  return list('tensors', lines, limit)
}
