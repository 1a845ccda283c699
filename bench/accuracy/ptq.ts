/**
 * Post-training quantisation by `mnc ptq`: ResNet-20 (CIFAR-10) and a MobileNetV3-like network with h-swish and
 * squeeze-and-excitation (CIFAR-100, KAIST's MicroNet entry), every convolution and the classifier, the first layer at 8
 * bits, 512 training images without labels. Top-1 on the full test set, of the float network, of `quantize` alone and of the
 * result, with --int8 also of its export for integer kernels, checked against it, and with --synthetic on made inputs in place of
 * images. Rows that are already in the result are not repeated. `processor` are seconds of all cores together, of use on a machine that
 * does other things as well.
 *
 *   node --import tsx bench/accuracy/ptq.ts [--effort default,best] [--nets resnet20,kaist] [--bits W8A8,W4A8,W4A6,W4A4] [--without round-weights] [--int8] [--synthetic]
 *
 * Writes bench/results/ptq.json after each row.
 */
import { existsSync, readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { writeFileAtomic } from '../../src/base/files.ts'
import { type CheckResult, checkModels } from '../../src/check/check.ts'
import { checkBatches } from '../../src/check/check-data.ts'
import { readModel } from '../../src/codec/codec.ts'
import { openPictures } from '../../src/data/open.ts'
import { type Preprocess, preprocessOf } from '../../src/data/preprocess.ts'
import { evaluate } from '../../src/evaluate/evaluate.ts'
import { exportFor } from '../../src/export/targets/export-for.ts'
import type { Model } from '../../src/graph/model.ts'
import { type PtqStep, ptq } from '../../src/ptq/ptq.ts'
import type { Effort } from '../../src/ptq/ptq-options.ts'
import { syntheticInputs } from '../../src/ptq/synthetic/synthetic-inputs.ts'
import { SYNTHETIC_SIZE } from '../../src/ptq/synthetic/synthetic-options.ts'

const { values: given } = parseArgs({
  options: {
    effort: { type: 'string', default: 'default' },
    nets: { type: 'string', default: 'resnet20,kaist' },
    bits: { type: 'string', default: 'W4A8,W4A4,W8A8,W4A6' },
    without: { type: 'string' },
    limit: { type: 'string', default: '512' },
    int8: { type: 'boolean', default: false },
    synthetic: { type: 'boolean', default: false },
    out: { type: 'string', default: 'bench/results/ptq.json' },
  },
})

const nets = {
  resnet20: {
    file: '.data/zoo/akamaster_resnet20_bn_op13.onnx',
    data: 'cifar10:.data/cifar-10',
    pixels: { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
  },
  kaist: {
    file: '.data/zoo/micronet_kaist_v2_pr15_op14.onnx',
    data: 'cifar100:.data/cifar-100',
    pixels: { mean: [0.5071, 0.4865, 0.4409], std: [0.2673, 0.2564, 0.2762] },
  },
} as const
type Net = keyof typeof nets

interface Row {
  readonly net: string
  readonly bits: string
  readonly effort: string
  readonly without: readonly string[]
  /** Fractions of the test images. */
  readonly float: number
  readonly top1: number
  readonly distance: number
  readonly seconds: number
  readonly processor?: number
  readonly synthetic?: boolean
  /** The export against the graph, on the test set, as `mnc check` does. */
  readonly int8?: CheckResult['byOptimisation']
  readonly steps: readonly PtqStep[]
}

const rows: Row[] = existsSync(given.out) ? JSON.parse(readFileSync(given.out, 'utf8')).rows : []
const without = given.without?.split(',') ?? []
const floats = new Map<Net, number>()

async function top1(model: Model, data: string, preprocess: Preprocess): Promise<number> {
  return (await evaluate(model, await openPictures(data, 'test'), preprocess)).top1
}

async function make(net: Net, bits: string, effort: Effort): Promise<Row> {
  const { file, data, pixels } = nets[net]
  const [, weightBits, activationBits] = /^W(\d)A(\d)$/.exec(bits)!.map(Number)
  const model = await readModel(file)
  const set = await openPictures(data, 'train')
  const preprocess = await preprocessOf(model, set, pixels)
  const float = floats.get(net) ?? rows.find((r) => r.net === net)?.float ?? (await top1(model, data, preprocess))
  floats.set(net, float)
  const start = performance.now()
  const cpu = process.cpuUsage()
  const made = given.synthetic && { ...SYNTHETIC_SIZE[effort], seed: 0 }
  const images = made ? await syntheticInputs(model, made, console.log) : set
  const options = {
    weightBits: weightBits!,
    activationBits: activationBits!,
    effort,
    without,
    limit: Number(given.limit),
  }
  const result = await ptq(model, { data: images, ...(!made && { preprocess }), options }, (e) => {
    if (e.kind === 'step') console.log(net, bits, effort, e.step.name, e.step.outcome, e.step.distance, e.step.seconds)
  })
  const seconds = (performance.now() - start) / 1000
  const { user, system } = process.cpuUsage(cpu)
  const processor = (user + system) / 1e6
  const { distance, steps } = result
  const measured = await top1(result.model, data, preprocess)
  const int8 = given.int8 && { int8: await exported(result.model, data, preprocess) }
  const synthetic = made && { synthetic: true }
  return {
    net,
    bits,
    effort,
    without,
    float,
    top1: measured,
    distance,
    seconds,
    processor,
    ...synthetic,
    ...int8,
    steps,
  }
}

async function exported(graph: Model, data: string, preprocess: Preprocess): Promise<CheckResult['byOptimisation']> {
  const { model } = await exportFor(graph, { format: 'int8' })
  const test = await openPictures(data, 'test')
  const { byOptimisation } = await checkModels(graph, model, { batches: checkBatches(graph, test, preprocess, 100) })
  return byOptimisation
}

const isSame = (a: Pick<Row, 'net' | 'bits' | 'effort' | 'without'>) => (b: Row) =>
  (b.synthetic === true) === given.synthetic &&
  a.net === b.net &&
  a.bits === b.bits &&
  a.effort === b.effort &&
  a.without.join() === b.without.join()

for (const effort of given.effort.split(',') as Effort[])
  for (const bits of given.bits.split(','))
    for (const net of given.nets.split(',') as Net[]) {
      if (rows.some(isSame({ net, bits, effort, without }))) continue
      const row = await make(net, bits, effort)
      rows.push(row)
      console.log(net, bits, effort, 'top-1', row.top1, 'float', row.float, 'seconds', Math.round(row.seconds))
      const what = 'mnc ptq, 512 unlabelled training images, every layer, first layer at 8 bits; top-1 on the test set'
      const machine = { cpu: cpus()[0]?.model, cores: cpus().length }
      await writeFileAtomic(given.out, `${JSON.stringify({ what, ...machine, rows }, null, 2)}\n`)
    }
