/** `mnc check`: what a model lost against its reference, in stock onnxruntime at both optimisation levels. */
import { type OptionsOf, optionTable } from '../base/options.ts'
import type { CheckResult, LevelResult, MetricChange } from '../check/check.ts'
import type { LayerDifference } from '../check/check-layers.ts'
import type { ComparedMetrics, Pair } from '../check/check-metrics.ts'
import { type CheckGates, checkOptions, gateCheck, gatesOf, refuseMetrics } from '../check/check-options.ts'
import type { ReaderResult } from '../check/check-readers.ts'
import type { CheckTally } from '../check/tally.ts'
import type { SampleSet } from '../data/array-set.ts'
import type { PackedReading } from '../evaluate/packed-readings.ts'
import { targetNames, targetOf } from '../export/targets/index.ts'
import type { Model } from '../graph/model.ts'
import { threadsOption } from '../runtime/device-options.ts'
import { probeOptions } from '../runtime/probe-options.ts'
import { sizeOptions } from '../samples/size-options.ts'
import { shardOptions } from '../shards/shard-options.ts'
import { cutOffNote } from './cut-off-note.ts'
import { defineCommand } from './define-command.ts'
import { type Division, divided } from './divide.ts'
import type { CommandIO } from './io.ts'
import { openModel } from './open-model.ts'
import { dataOption, dataOptions, openFor, pixelOptions } from './pixel-options.ts'
import { percent, table } from './table.ts'

/** Above this fraction of the largest value a layer counts as different: float rounding stays well under it. */
const LAYER_TOLERANCE = 1e-4

const options = optionTable({
  ...dataOption,
  ...checkOptions,
  threads: threadsOption,
  layers: {
    type: 'boolean',
    default: false,
    description: 'SQNR of every value that has the same name in both models',
  },
  target: {
    type: 'string',
    enum: targetNames,
    description:
      "Also in the target's readers, those that are installed: in the pythons that MNC_READERS names, and onnxruntime-web from npm (onnxruntime-node always is)",
  },
  ...dataOptions,
  ...pixelOptions,
  ...probeOptions,
  ...sizeOptions,
  ...shardOptions,
})
type Options = OptionsOf<typeof options>

interface CheckFacts {
  readonly path: string
  readonly outputs: readonly string[]
  readonly random: boolean
  readonly gates: CheckGates
  readonly metrics: Pick<ComparedMetrics, 'names' | 'gauges'> | null
}

/** Of a batch of samples. */
interface CheckItem {
  readonly tally: CheckTally
  /** What metrics read of both models. */
  readonly read: Pair<PackedReading> | null
}

interface Checked {
  readonly result: CheckResult
  readonly layers?: readonly LayerDifference[]
  readonly readers?: readonly ReaderResult[]
}

export const checkDivision: Division<CheckFacts, CheckItem, Checked> = {
  command: 'check',
  writesFile: false,
  async join({ outputs, random, metrics }, items) {
    const { checkResult, joinTallies } = await import('../check/tally.ts')
    const result = checkResult(outputs, random, joinTallies(items.map((item) => item.tally)))
    if (!metrics) return { result }
    const { metricChanges } = await import('../check/check-metrics.ts')
    const { unpackReading } = await import('../evaluate/packed-readings.ts')
    const changes = await metricChanges(metrics, (which) =>
      items.flatMap(({ read }) => (read ? [unpackReading(read[which], metrics.gauges[which])] : [])),
    )
    return { result: { ...result, metrics: changes } }
  },
  async finish({ path, gates }, { result, layers, readers }, _out, io) {
    const first = layers?.find((l) => l.maxRelError > LAYER_TOLERANCE)?.name ?? null
    io.result({ ...result, ...(layers && { layers, firstDifferent: first }), ...(readers && { readers }) }, (width) =>
      [describe(result, layers ?? null, first, width), ...(readers ? [describeReaderResults(readers)] : [])].join(
        '\n\n',
      ),
    )
    gateCheck(result, gates, path)
    if (readers) (await import('../check/check-readers.ts')).gateReaders(readers, path)
  },
}

export const check = defineCommand({
  name: 'check',
  summary: 'Compare a model with its reference: accuracy, drop, largest error, by optimisation level and by layer',
  arguments: [
    { name: 'REFERENCE', description: 'The model that MODEL was made from' },
    { name: 'MODEL', description: 'The model to check' },
  ],
  options,
  examples: [
    'mnc check trained.onnx deploy.onnx --data cifar100:DIR --max-drop 0.001',
    'mnc check trained.onnx deploy.onnx --layers',
    'mnc check detector.onnx detector.int8.onnx --data npz:FILE --metric map --max-worse 0.01',
    'MNC_READERS=venv/bin/python mnc check trained.onnx trained.openvino.onnx --target openvino',
  ],
  run: ([referencePath = '', path = ''], given, io) =>
    divided(checkDivision, path, given, io, async () => {
      const { usageError } = await import('../base/errors.ts')
      if ((given.maxDrop ?? given.maxChange) !== undefined && given.data === undefined)
        throw usageError('--max-drop and --max-change are about accuracy and need --data')
      refuseMetrics(given)
      if (given.metric && given.data === undefined) throw usageError('--metric needs --data')
      const { agreeOnOrder } = await import('../data/class-order.ts')
      const { inItems, inStep } = await import('../data/items.ts')
      const { fingerprint } = await import('../codec/codec.ts')
      const { checkModels, checkTallies, comparedOutputs, randomBatches } = await import('../check/check.ts')
      const { joinTallies } = await import('../check/tally.ts')
      const { recordSizes } = await import('../samples/input-shapes.ts')
      const [reference, model] = [await openModel(referencePath, io), await openModel(path, io)]
      recordSizes([reference, model], given)
      if (given.classes === undefined) agreeOnOrder(reference, model)
      const data = given.data === undefined ? null : await dataOf(reference, given.data, given, io)
      const cutOff = await cutOffNote(model)
      if (cutOff) io.log(cutOff)
      if (!data) io.log('WARNING: no --data: inputs are random numbers, and accuracy is not measured')
      const { threads, batch } = given
      const gates = gatesOf(given)
      const compared = given.metric && data ? await comparedOn(given.metric, data) : null
      const watched = async <T>(samples: number, work: (onProgress: (done: number) => void) => Promise<T>) => {
        const progress = data ? io.progress('check', samples) : null
        try {
          return await work((done) => progress?.update(done))
        } finally {
          progress?.end()
        }
      }
      const firstBatch = async function* () {
        for await (const first of data ? data.batches() : randomBatches(reference, io.seed)) {
          yield first
          return
        }
      }
      return {
        facts: () => ({
          ...{ reference: fingerprint(reference), model: fingerprint(model), data: data?.set.contentHash() ?? null },
          ...{ batch, preprocess: data?.preprocess ?? null },
          ...{ maxDrop: gates.maxDrop ?? null, maxChange: gates.maxChange ?? null },
          ...{ metric: compared?.names ?? null, maxWorse: gates.maxWorse ?? null },
        }),
        shared: {
          ...{ path, outputs: comparedOutputs(reference, model), random: !data, gates },
          metrics: compared && { names: compared.names, gauges: compared.gauges },
        },
        items: data ? Math.ceil(data.set.size / batch) : 1,
        async whole(): Promise<Checked> {
          const result = await watched(data?.set.size ?? 0, (onProgress) =>
            checkModels(reference, model, {
              ...{ seed: io.seed, threads, onProgress },
              ...(data && { batches: data.batches() }),
            }),
          )
          const metrics = compared && data ? await metricsOf(compared, 2 * data.set.size) : undefined
          const layers = given.layers ? await layersOf() : undefined
          const readers = given.target === undefined ? undefined : await readersOf(given.target)
          return {
            result: { ...result, ...(metrics && { metrics }) },
            ...(layers && { layers }),
            ...(readers && { readers }),
          }
        },
        async share({ from, to }, done, keep) {
          if (!data) throw usageError('--shard and --jobs divide the samples of --data', 'there are none')
          if (given.layers || given.target !== undefined)
            throw usageError('--layers and --target look at one batch, which is not divided', 'leave out one of them')
          const items = [...done]
          const first = from + done.length
          const own = data.between(first * batch, to * batch)
          if (!own) return items
          const reads = compared ? await readOf(compared, own.set) : none()
          await watched(own.set.size, async (onProgress) => {
            const run = { batches: own.batches(), isFirst: first === 0, threads, onProgress }
            for await (const [item, read] of inStep(inItems(checkTallies(reference, model, run), batch), reads)) {
              items.push({ tally: joinTallies(item), read })
              await keep(items)
            }
          })
          return items
        },
      }

      async function comparedOn(names: readonly string[], { set, preprocess }: NonNullable<typeof data>) {
        const { comparedMetrics } = await import('../check/check-metrics.ts')
        return comparedMetrics(reference, model, set, preprocess, names, { batch, load: { threads } })
      }

      async function readOf(compared: ComparedMetrics, samples: SampleSet) {
        const { packedItems } = await import('../check/check-metrics.ts')
        return packedItems(compared, samples, batch)
      }

      async function metricsOf(compared: ComparedMetrics, samples: number) {
        const { metricChanges } = await import('../check/check-metrics.ts')
        return watched(samples, (onProgress) => {
          let done = 0
          return metricChanges(compared, async function* (which) {
            for await (const reading of compared.readings(which)) {
              yield reading
              done += reading.count
              onProgress(done)
            }
          })
        })
      }

      async function layersOf(): Promise<LayerDifference[]> {
        const { compareLayers } = await import('../check/check-layers.ts')
        const { restoreNames } = await import('../check/short-names.ts')
        await restoreNames(model, path)
        for await (const { feeds, count } of firstBatch()) return compareLayers(reference, model, feeds, count)
        return []
      }

      async function readersOf(target: string): Promise<readonly ReaderResult[]> {
        const { checkReaders } = await import('../check/check-readers.ts')
        const { installedReaders } = await import('../check/installed-readers.ts')
        const { parseReader } = await import('../analysis/readers.ts')
        const wanted = targetOf(target).readers.map(parseReader)
        const installed = await installedReaders()
        for await (const first of firstBatch())
          return checkReaders(reference, { model, path }, first, { wanted, installed })
        return []
      }
    }),
})

/** Of every item, where no metrics are asked for. */
async function* none(): AsyncGenerator<null, void, undefined> {
  while (true) yield null
}

/** Batches of the test split, preprocessed as the reference says. */
async function dataOf(reference: Model, where: string, given: Options, io: CommandIO) {
  const { checkBatches } = await import('../check/check-data.ts')
  const { samplesBetween } = await import('../data/items.ts')
  const { data, preprocess } = await openFor(reference, where, 'test', given, io)
  const set = given.limit === undefined ? data : data.take(given.limit)
  const batchesOf = (own: SampleSet) => checkBatches(reference, own, preprocess, given.batch)
  return {
    ...{ set, preprocess, batches: () => batchesOf(set) },
    between(from: number, to: number) {
      const own = samplesBetween(set, from, to)
      return own && { set: own, batches: () => batchesOf(own) }
    },
  }
}

/** One line a reader. */
function describeReaderResults(results: readonly ReaderResult[]): string {
  const outcome = ({ reader, version, refusal, maxRelError }: ReaderResult): string => {
    if (version === null)
      return `not installed here (${reader === 'onnxruntime-web' ? 'npm install onnxruntime-web' : 'MNC_READERS names pythons that have readers'})`
    return refusal === null
      ? `differs by ${percent(maxRelError ?? 0, 2)} of the largest output at most`
      : `refuses it: ${refusal}`
  }
  return results.map((r) => `${r.reader}${r.version ? ` ${r.version}` : ''}: ${outcome(r)}`).join('\n')
}

const metricFigures = ({ reference, model, worse }: MetricChange): string[] =>
  [reference, model, worse].map((x) => String(Number(x.toPrecision(5))))

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
  const metrics = Object.entries(r.metrics ?? {}).map(([name, m]) => [name, ...metricFigures(m)])
  if (metrics.length > 0) parts.push(table([['metric', 'reference', 'model', 'worse by'], ...metrics], 'lrrr', width))
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
