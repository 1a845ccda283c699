/** `mnc sensitivity`: what pruning or quantising each layer alone would cost. */
import { type OptionsOf, optionsIn, optionTable } from '../base/options.ts'
import type { Model } from '../graph/model.ts'
import { probeOptions } from '../runtime/probe-options.ts'

import { sizeOptions } from '../samples/size-options.ts'
import { byName, keyOf, nameOf, type Point, type Trial } from '../sensitivity/point.ts'
import type { ScanHead, Sensitivity, SensitivityRun } from '../sensitivity/sensitivity.ts'
import { sensitivityOptions } from '../sensitivity/sensitivity-options.ts'
import { shardOptions } from '../shards/shard-options.ts'
import { defineCommand, output } from './define-command.ts'
import { type Division, divided } from './divide.ts'
import type { CommandIO } from './io.ts'
import { openModel } from './open-model.ts'
import { dataOptions, dataOptionWith, openFor, pixelOptions } from './pixel-options.ts'
import { percent, table } from './table.ts'

/** What a scan's files say besides its points. */
interface ScanFacts {
  readonly model: string
  readonly data: string | null
  readonly identity: string
  readonly plot: string | undefined
  readonly head: ScanHead
}

const outputOf = ({ model }: Pick<ScanFacts, 'model'>, given: string | undefined): string =>
  given ?? `${model.replace(/\.\w+$/, '')}.sensitivity.json`

export const sensitivityDivision: Division<ScanFacts, Point, Sensitivity> = {
  command: 'sensitivity',
  writesFile: true,
  async join({ head }, points) {
    const { scanResult } = await import('../sensitivity/sensitivity.ts')
    return scanResult(head, points)
  },
  async finish({ plot: named, ...facts }, result, given, io) {
    const { writeFileAtomic } = await import('../base/files.ts')
    const { sensitivityPlot } = await import('../sensitivity/plot.ts')
    const out = outputOf(facts, given)
    const { readScan } = await import('../sensitivity/scan-file.ts')
    await readScan(out, facts.identity, () => {})
    const plot = named ?? `${out.replace(/\.json$/, '')}.svg`
    await writeFileAtomic(out, scanText(facts, result))
    await writeFileAtomic(plot, sensitivityPlot(result, `${facts.model}: sensitivity of its layers`))
    io.result({ output: out, plot, ...result }, (width) => `${describe(result, width)}\n\n${out}\n${plot}`)
  },
}

const scanText = ({ model, data, identity }: Omit<ScanFacts, 'head' | 'plot'>, r: Sensitivity): string =>
  `${JSON.stringify({ model, data, identity, ...r }, null, 2)}\n`

const options = optionTable({
  data: dataOptionWith('; the training images by default. Without it, inputs are random (sqnr)'),
  ...dataOptions,
  ...pixelOptions,
  ...sizeOptions,
  ...sensitivityOptions,
  ...probeOptions,
  ...shardOptions,
  plot: {
    type: 'string',
    placeholder: 'FILE',
    description: 'Output file of the SVG chart; next to the JSON by default',
  },
  output: {
    ...output,
    description:
      'Output file of the JSON, MODEL.sensitivity.json by default; measurements already in it are not repeated',
  },
})

export const sensitivity = defineCommand({
  name: 'sensitivity',
  summary: 'Measure what pruning or quantising each layer alone would cost',
  arguments: [{ name: 'MODEL', description: 'An .onnx file, or its text form' }],
  options,
  examples: [
    'mnc sensitivity student.onnx --data cifar100:DIR -o s.json',
    'mnc pass prune student.onnx --layer-sparsity @s.json',
    'mnc pass quantize student.onnx --data cifar100:DIR --layer-weight-bits @s.json --layer-activation-bits @s.json',
  ],
  run: ([path = ''], given, io) =>
    divided(sensitivityDivision, path, given, io, async () => {
      const { writeFileAtomic } = await import('../base/files.ts')
      const { measureTrials, openScan, scanResult } = await import('../sensitivity/sensitivity.ts')
      const { readScan, scanIdentity } = await import('../sensitivity/scan-file.ts')
      const { fingerprint } = await import('../codec/codec.ts')
      const { recordSizes } = await import('../samples/input-shapes.ts')
      const model = await openModel(path, io)
      recordSizes([model], given)
      const own = optionsIn(sensitivityOptions, given)
      const data = given.data === undefined ? undefined : await openData(model, given.data, given, io)
      const on = { seed: io.seed, ...(data && { images: data.set, ...data.preprocess }) }
      const facts = { model: path, data: given.data ?? null, identity: scanIdentity(model, own, on) }
      const out = outputOf(facts, given.output)
      const known = await readScan(out, facts.identity, (message) => io.log(message))
      const scan = await openScan(model, { options: own, seed: io.seed, ...(data && { data }) })
      const { head, trials } = scan
      const measured = async (
        todo: readonly Trial[],
        done: readonly Point[],
        keep: (points: readonly Point[]) => Promise<void>,
      ): Promise<readonly Point[]> => {
        const all = [...known, ...done]
        const keys = new Set(all.map(keyOf))
        const progress = io.progress('sensitivity', todo.filter((t) => !keys.has(keyOf(t))).length)
        let count = 0
        try {
          return await measureTrials(scan, todo, {
            known: all,
            async onPoint(points, last) {
              if (!last) return
              progress.update(++count, `${last.layer} ${nameOf(last)}`)
              await keep(points)
            },
          })
        } finally {
          progress.end()
        }
      }
      return {
        facts: () => ({
          ...{ model: fingerprint(model), data: data ? data.set.contentHash() : null },
          ...{ identity: facts.identity, trials: trials.map(keyOf), head },
        }),
        shared: { ...facts, plot: given.plot, head },
        items: trials.length,
        async whole() {
          const write = (points: readonly Point[]): Promise<void> =>
            writeFileAtomic(out, scanText(facts, scanResult(head, points)))
          return scanResult(head, await measured(trials, [], write))
        },
        share: ({ from, to }, done, keep) => measured(trials.slice(from, to), done, keep),
      }
    }),
})

async function openData(
  model: Model,
  reference: string,
  given: OptionsOf<typeof options>,
  io: CommandIO,
): Promise<NonNullable<SensitivityRun['data']>> {
  const { calibrationData } = await import('../data/index.ts')
  const { data: whole, preprocess } = await openFor(model, reference, 'train', given, io)
  const { calibrate: limit, batch } = given
  const calibration = await calibrationData(model, whole, { limit, batch, ...optionsIn(pixelOptions, given) })
  return { set: whole.take(given.limit), preprocess, calibration }
}

function describe(r: Sensitivity, width: number): string {
  const columns = [...byName(r.points).keys()]
  const shown = (v: number): string =>
    r.metric === 'accuracy' ? percent(v, 2) : v.toFixed(r.metric === 'loss' ? 4 : 1)
  const rows = r.layers.map(({ name, op, weights }) => {
    const own = new Map(r.points.filter((p) => p.layer === name).map((p) => [nameOf(p), p]))
    const cells = columns.map((c) => own.get(c)?.value ?? null)
    return [name, op, weights.toLocaleString('en'), ...cells.map((v) => (v === null ? '-' : shown(v)))]
  })
  const what = { accuracy: 'top-1', loss: 'cross entropy', sqnr: 'SQNR in dB' }[r.metric]
  const unchanged = r.metric === 'sqnr' ? '' : `; unchanged ${shown(r.baseline)}`
  const left = r.points.filter((p) => p.reason !== undefined)
  const reasons = [...new Set(left.map((p) => `${p.layer}: ${p.reason}`))]
  return [
    `${what} on ${r.samples} samples with one layer changed${unchanged}`,
    table([['layer', 'op', 'weights', ...columns], ...rows], `llr${'r'.repeat(columns.length)}`, width),
    ...reasons,
  ].join('\n')
}
