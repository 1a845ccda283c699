/** `mnc check`: what a model lost against its reference, in stock onnxruntime at both optimisation levels. */
import type { OptionsOf } from '../base/options.ts'
import type { CheckBatch, CheckResult, LevelResult } from '../check/check.ts'
import type { LayerDifference } from '../check/check-layers.ts'
import { checkOptions, gateCheck } from '../check/check-options.ts'
import type { ReaderResult } from '../check/check-readers.ts'
import { targetNames, targetOf } from '../export/targets/index.ts'
import type { Model } from '../graph/model.ts'
import { probeOptions } from '../runtime/probe-options.ts'
import { sizeOptions } from '../samples/size-options.ts'
import { defineCommand } from './define-command.ts'
import type { CommandIO } from './io.ts'
import { openModel } from './open-model.ts'
import { dataOption, dataOptions, openFor, pixelOptions } from './pixel-options.ts'
import { percent, table } from './table.ts'

/** Above this fraction of the largest value a layer counts as different: float rounding stays well under it. */
const LAYER_TOLERANCE = 1e-4

export const check = defineCommand({
  name: 'check',
  summary: 'Compare a model with its reference: accuracy, drop, largest error, by optimisation level and by layer',
  arguments: [
    { name: 'REFERENCE', description: 'The model that MODEL was made from' },
    { name: 'MODEL', description: 'The model to check' },
  ],
  options: {
    ...dataOption,
    ...checkOptions,
    layers: {
      type: 'boolean',
      default: false,
      description: 'SQNR of every value that has the same name in both models',
    },
    target: {
      type: 'string',
      enum: targetNames,
      description:
        "Also in the target's readers, those that are installed in a python that MNC_READERS names (onnxruntime-node always is)",
    },
    ...dataOptions,
    ...pixelOptions,
    ...probeOptions,
    ...sizeOptions,
  },
  examples: [
    'mnc check student.onnx student.packed.onnx --data cifar100:DIR --max-drop 0.001',
    'mnc check student.onnx student.packed.onnx --layers',
    'MNC_READERS=venv/bin/python mnc check student.onnx student.openvino.onnx --target openvino',
  ],
  async run([referencePath = '', path = ''], options, io) {
    const { usageError } = await import('../base/errors.ts')
    if ((options.maxDrop ?? options.maxChange) !== undefined && options.data === undefined)
      throw usageError('--max-drop and --max-change are about accuracy and need --data')
    const { agreeOnOrder } = await import('../data/class-order.ts')
    const { checkModels, randomBatches } = await import('../check/check.ts')
    const { recordSizes } = await import('../samples/input-shapes.ts')
    const [reference, model] = [await openModel(referencePath, io), await openModel(path, io)]
    recordSizes([reference, model], options)
    if (options.classes === undefined) agreeOnOrder(reference, model)
    const data = options.data === undefined ? null : await dataOf(reference, options.data, options, io)
    if (!data) io.log('WARNING: no --data: inputs are random numbers, and accuracy is not measured')
    const progress = data ? io.progress('check', data.samples) : null
    const result = await checkModels(reference, model, {
      seed: io.seed,
      ...(data && { batches: data.batches() }),
      onProgress: (done) => progress?.update(done),
    })
    progress?.end()
    let layers: LayerDifference[] | null = null
    if (options.layers) {
      const { compareLayers } = await import('../check/check-layers.ts')
      const { restoreNames } = await import('../check/short-names.ts')
      await restoreNames(model, path)
      for await (const batch of data ? data.batches() : randomBatches(reference, io.seed)) {
        layers = await compareLayers(reference, model, batch.feeds, batch.count)
        break
      }
    }
    let readers: readonly ReaderResult[] | null = null
    if (options.target !== undefined) {
      const { checkReaders } = await import('../check/check-readers.ts')
      const { pythonReaders } = await import('../check/python-readers.ts')
      const { parseReader } = await import('../analysis/readers.ts')
      const wanted = targetOf(options.target).readers.map(parseReader)
      const installed = await pythonReaders()
      for await (const batch of data ? data.batches() : randomBatches(reference, io.seed)) {
        readers = await checkReaders(reference, { model, path }, batch, { wanted, installed })
        break
      }
    }
    const first = layers?.find((l) => l.maxRelError > LAYER_TOLERANCE)?.name ?? null
    io.result({ ...result, ...(layers && { layers, firstDifferent: first }), ...(readers && { readers }) }, (width) =>
      [describe(result, layers, first, width), ...(readers ? [describeReaderResults(readers)] : [])].join('\n\n'),
    )
    gateCheck(result, options, path)
    if (readers) (await import('../check/check-readers.ts')).gateReaders(readers, path)
  },
})

interface DataOptions extends OptionsOf<typeof pixelOptions>, OptionsOf<typeof dataOptions> {
  readonly limit: number | undefined
  readonly batch: number
}

/** Batches of the test split, preprocessed as the reference says. */
async function dataOf(
  reference: Model,
  where: string,
  options: DataOptions,
  io: CommandIO,
): Promise<{ samples: number; batches: () => AsyncGenerator<CheckBatch, void, undefined> }> {
  const { checkBatches } = await import('../check/check-data.ts')
  const { data, preprocess } = await openFor(reference, where, 'test', options, io)
  const dataset = options.limit === undefined ? data : data.take(options.limit)
  return {
    samples: dataset.size,
    batches: () => checkBatches(reference, dataset, preprocess, options.batch),
  }
}

/** One line a reader. */
function describeReaderResults(results: readonly ReaderResult[]): string {
  const outcome = ({ version, refusal, maxRelError }: ReaderResult): string => {
    if (version === null) return 'not installed here (MNC_READERS names pythons that have readers)'
    return refusal === null
      ? `differs by ${percent(maxRelError ?? 0, 2)} of the largest output at most`
      : `refuses it: ${refusal}`
  }
  return results.map((r) => `${r.reader}${r.version ? ` ${r.version}` : ''}: ${outcome(r)}`).join('\n')
}

const points = (share: number): string => `${(share * 100).toFixed(2)} points`

function describe(
  r: CheckResult,
  layers: readonly LayerDifference[] | null,
  first: string | null,
  width: number,
): string {
  const row = (name: string, l: LevelResult): string[] => [
    ...[name, l.top1 === null ? '-' : percent(l.top1), l.drop === null ? '-' : points(l.drop)],
    ...[l.maxAbsError.toExponential(2), l.maxRelError.toExponential(2), percent(l.equal), percent(l.agreement)],
  ]
  const { noise } = r.reference
  const own = noise ? ['', noise.maxRelError.toExponential(2), percent(noise.equal), ''] : ['', '', '', '']
  const rows = [
    ['', 'top-1', 'drop', 'max error', 'relative', 'within 1e-4', 'same class'],
    ['reference (with itself, optimised)', r.reference.top1 === null ? '-' : percent(r.reference.top1), '', ...own],
    row('ORT_DISABLE_ALL', r.byOptimisation.disabled),
    row('ORT_ENABLE_ALL', r.byOptimisation.all),
  ]
  const kind = r.random ? 'random inputs' : 'samples'
  const parts = [`${r.samples} ${kind}\n${table(rows, 'lrrrrrr', width)}`]
  const worst = new Set(Object.values(r.byOptimisation).flatMap((l) => l.worstOutput ?? []))
  if (r.outputs.length > 1 && worst.size > 0)
    parts.push(`of ${r.outputs.length} outputs, the largest relative error is in ${[...worst].join(', ')}`)
  if (layers?.length === 0) parts.push('by layer: no float value has the same name in both models')
  else if (layers) {
    const lines = layers.map((l) => [
      ...[l.name, l.op, l.dims.join('x'), Number.isFinite(l.sqnr) ? l.sqnr.toFixed(1) : 'equal'],
      l.maxRelError.toExponential(1),
    ])
    parts.push(table([['value', 'op', 'shape', 'SQNR dB', 'relative'], ...lines], 'lllrr', width))
    parts.push(first === null ? 'no value differs beyond float rounding' : `first to differ: ${first}`)
  }
  return parts.join('\n\n')
}
