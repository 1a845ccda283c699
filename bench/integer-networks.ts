/**
 * Networks in integers from end to end: speed of the file that `quantize`, `quantize-outputs` and `export --format int8` give, 8-bit
 * weights and activations, against the float network and files of another tool, on one thread.
 *
 *   node --import tsx bench/integer-networks.ts NAME=FLOAT[,PEER] ... [--out bench/results/integer-networks.json]
 *
 * FLOAT: a model file; PEER: the same network quantised by `bench/onnx/quantize_static.py`. Inputs of unknown dims are 32.
 * Calibrated on random images: speed does not depend on what was learned, but for which gates' clips are needed.
 *
 * Times are those that the processor spent on a run, in turns: what else the machine does enters them least. Least and
 * lower quartile of the rounds; ratios are of either.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { parseArgs } from 'node:util'
import { readModel } from '../src/codec/codec.ts'
import { calibrationData } from '../src/data/calibration.ts'
import { exportModel } from '../src/export/export-model.ts'
import { cloneModel } from '../src/graph/clone.ts'
import type { Model } from '../src/graph/model.ts'
import { Tensor } from '../src/graph/tensor.ts'
import { runPass } from '../src/passes/run-pass.ts'
import { ortExecutor } from '../src/runtime/ort/ort.ts'
import { machine } from './torch-peer.ts'

const { values: args, positionals } = parseArgs({
  options: { out: { type: 'string', default: 'bench/results/integer-networks.json' } },
  allowPositionals: true,
})

const SIDE = 32
const BATCHES = [
  { batch: 1, rounds: 150 },
  { batch: 32, rounds: 12 },
] as const

async function inIntegers(float: Model, rowPairs: boolean): Promise<Model> {
  const model = cloneModel(float)
  const context = async () => ({ calibration: await calibrationData(model, 'random', { limit: 16, batch: 16 }) })
  await runPass(model, 'fold-bn')
  await runPass(model, 'quantize', { weightBits: 8, activationBits: 8, ops: ['*'] }, await context())
  await runPass(model, 'quantize-outputs', {}, await context())
  return (await exportModel(model, { format: 'int8', rowPairs })).model
}

function feedsOf(model: Model, batch: number): Record<string, Tensor> | null {
  const [input] = model.graph.inputs
  const dims = input!.type!.dims!.map((d, i) => (typeof d === 'number' ? d : i === 0 ? batch : SIDE))
  if (dims[0] !== batch) return null
  const size = dims.reduce((n, d) => n * d, 1)
  return {
    [input!.name]: Tensor.float32(
      dims,
      Float32Array.from({ length: size }, (_, i) => 2 * Math.sin(0.7 * i)),
    ),
  }
}

const rounded = (x: number): number => Number(x.toPrecision(3))

async function measure(name: string, files: readonly (readonly [string, Model])[]) {
  const rows = []
  for (const { batch, rounds } of BATCHES) {
    const sides = []
    for (const [label, model] of files) {
      const feeds = feedsOf(model, batch)
      if (feeds)
        sides.push({ label, feeds, session: await ortExecutor().load(model, { threads: 1 }), ms: [] as number[] })
    }
    for (let round = -3; round < rounds; round++)
      for (const { session, feeds, ms } of sides) {
        const start = process.cpuUsage()
        await session.run(feeds)
        const { user, system } = process.cpuUsage(start)
        if (round >= 0) ms.push((user + system) / 1000)
      }
    for (const s of sides) s.ms.sort((a, b) => a - b)
    const quarter = (ms: readonly number[]): number => ms[Math.floor(ms.length / 4)]!
    for (const { label, ms, session } of sides) {
      const [float] = sides
      rows.push({
        ...{ network: name, batch, file: label, least: rounded(ms[0]!), quartile: rounded(quarter(ms)) },
        ...{ timesFloat: rounded(float!.ms[0]! / ms[0]!), byQuartile: rounded(quarter(float!.ms) / quarter(ms)) },
      })
      await session.dispose()
    }
  }
  return rows
}

const rows = []
for (const one of positionals) {
  const [name, paths = ''] = one.split('=')
  const [float, ...peers] = await Promise.all(paths.split(',').map((path) => readModel(path)))
  const files: [string, Model][] = [
    ['float', float!],
    ['int8', await inIntegers(float!, false)],
    ['int8, row pairs', await inIntegers(float!, true)],
    ...peers.map((model, i): [string, Model] => [basename(paths.split(',')[i + 1]!, '.onnx'), model]),
  ]
  rows.push(...(await measure(name!, files)))
  console.table(rows.filter((r) => r.network === name))
}
await mkdir(dirname(args.out), { recursive: true })
await writeFile(args.out, `${JSON.stringify({ machine: machine(), threads: 1, rows }, null, 2)}\n`)
