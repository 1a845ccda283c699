/**
 * Networks in integers from end to end: speed of the file that `quantize`, `quantize-outputs` and `export --format int8` give, 8-bit
 * weights and activations, against the float network and files of other tools, on one thread, batch 1 and 32.
 *
 *   node --import tsx bench/integer-networks.ts prepare DIR [--static PYTHON] [--nncf PYTHON] [--only NAME,...]
 *   node --import tsx bench/integer-networks.ts DIR [--only NAME,...] [--out bench/results/integer-networks.json]
 *
 * `prepare` writes DIR/NAME.FILE.onnx, which takes minutes and measures nothing: networks of the zoo where it is there, and of models/,
 * with random weights; as int8, with pairs of rows, with large images in floats (`--mixed`), by onnxruntime's static quantisation (`bench/onnx/quantize_static.py`) and by NNCF
 * (`bench/onnx/quantize_nncf.py`), each in a Python that has it. Files that are there stay. The second command, on a quiet machine, runs what is in DIR.
 *
 * The first layer is in integers too, as it is in the other tools' files. Inputs of unknown dims are 32. Calibrated on random images: speed does not depend on what was learned, but for which gates' clips are needed.
 *
 * A file that does not load is said and left out. Times are those that the processor spent on a run, in turns: what else the machine does enters them least. Least and
 * lower quartile of the rounds; ratios are of either.
 */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { readModel, writeModel } from '../src/codec/codec.ts'
import { calibrationData } from '../src/data/calibration.ts'
import { exportModel } from '../src/export/export-model.ts'
import type { ExportOptions } from '../src/export/export-options.ts'
import { cloneModel } from '../src/graph/clone.ts'
import type { Model } from '../src/graph/model.ts'
import { Tensor } from '../src/graph/tensor.ts'
import { buildNetwork } from '../src/models/spec.ts'
import { upgradeModelTo } from '../src/ops/raise-opset.ts'
import { runPass } from '../src/passes/run-pass.ts'
import { widenFloats } from '../src/passes/widen-floats.ts'
import { ortExecutor } from '../src/runtime/ort/ort.ts'
import { machine } from './torch-peer.ts'

const { values: args, positionals } = parseArgs({
  options: {
    out: { type: 'string', default: 'bench/results/integer-networks.json' },
    static: { type: 'string' },
    nncf: { type: 'string' },
    only: { type: 'string' },
    zoo: { type: 'string', default: '../shared/zoo' },
  },
  allowPositionals: true,
})

/** From a file of the zoo, or built. */
const networks: Readonly<Record<string, string | Readonly<Record<string, unknown>>>> = {
  resnet20: 'akamaster_resnet20_bn_op13.onnx',
  resnet56: 'akamaster_resnet56_bn_op10.onnx',
  'densenet-bc-40-12': { family: 'densenet-bc', depth: 40, growth: 12 },
  kaist: 'micronet_kaist_v2_pr15_op14.onnx',
  'mobilenet-v2': { family: 'mobilenet-v2' },
  ultraface: 'ultraface_version-RFB-320.onnx',
  squeezenet: 'winml_SqueezeNet_fp16.onnx',
}
const FILES = ['float', 'int8', 'int8, row pairs', 'int8, mixed', 'onnxruntime static', 'nncf'] as const
const only = args.only?.split(',')
const chosen = Object.keys(networks).filter((name) => !only || only.includes(name))

const SIDE = 32
const LEAST_ROUNDS = 5
const BATCHES = [
  { batch: 1, rounds: 150, seconds: 6 },
  { batch: 32, rounds: 12, seconds: 16 },
] as const

async function inIntegers(float: Model, options: ExportOptions = {}): Promise<Model> {
  const model = cloneModel(float)
  const context = async () => ({ calibration: await calibrationData(model, 'random', { limit: 16, batch: 16 }) })
  await runPass(model, 'fold-bn')
  await runPass(
    model,
    'quantize',
    { weightBits: 8, activationBits: 8, ops: ['*'], firstLayer: 'quantize' },
    await context(),
  )
  await runPass(model, 'quantize-outputs', {}, await context())
  return (await exportModel(model, { format: 'int8', vnni: true, ...options })).model
}

function feedsOf(model: Model, batch: number): Record<string, Tensor> | null {
  const input = model.graph.inputs.find((v) => !v.default)
  const dims = input!.type!.dims!.map((d, i) => (typeof d === 'number' ? d : i === 0 ? batch : SIDE))
  if (dims[0] !== batch) return null
  const size = dims.reduce((n, d) => n * d, 1)
  return {
    [input!.name]: Tensor.from(
      input!.type!.elem,
      dims,
      Float32Array.from({ length: size }, (_, i) => 2 * Math.sin(0.7 * i)),
    ),
  }
}

const rounded = (x: number): number => Number(x.toPrecision(3))

async function measure(name: string, files: readonly (readonly [string, Model])[]) {
  const rows = []
  for (const { batch, rounds, seconds } of BATCHES) {
    const sides = []
    for (const [label, model] of files) {
      const feeds = feedsOf(model, batch)
      if (!feeds) continue
      try {
        sides.push({ label, feeds, session: await ortExecutor().load(model, { threads: 1 }), ms: [] as number[] })
      } catch (error) {
        console.error(`${name}, ${label}: does not load (${String(error).slice(0, 100)})`)
      }
    }
    if (sides[0]?.label !== 'float') continue
    const end = performance.now() + 1000 * seconds * sides.length
    for (let round = -2; round < rounds && (round < LEAST_ROUNDS || performance.now() < end); round++)
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

async function floatOf(name: string): Promise<Model | null> {
  const from = networks[name]!
  if (typeof from !== 'string') return buildNetwork({ family: '', ...from }, { seed: 1 })
  const path = join(args.zoo, from)
  if (!existsSync(path)) return null
  const model = await readModel(path)
  widenFloats(model)
  // the other tools take no older ones
  if (model.opset < 13) upgradeModelTo(model, 13)
  return model
}

async function prepare(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  for (const name of chosen) {
    const at = (file: string): string => join(folder, `${name}.${file}.onnx`)
    const make = async (file: string, write: () => Promise<void> | void): Promise<void> => {
      if (existsSync(at(file))) return
      try {
        await write()
        console.log(`${at(file)} is written`)
      } catch (error) {
        console.error(`${at(file)}: ${error instanceof Error ? error.message.slice(-400) : error}`)
      }
    }
    const float = await floatOf(name)
    if (!float) continue
    await make('float', () => writeModel(float, at('float')))
    await make('int8', async () => writeModel(await inIntegers(float), at('int8')))
    await make('int8, row pairs', async () =>
      writeModel(await inIntegers(float, { rowPairs: true }), at('int8, row pairs')),
    )
    await make('int8, mixed', async () => writeModel(await inIntegers(float, { mixed: true }), at('int8, mixed')))
    const peer = (python: string, script: string, file: string): void => {
      execFileSync(python, [join('bench/onnx', script), at('float'), at(file)], { stdio: ['ignore', 'ignore', 'pipe'] })
    }
    if (args.static)
      await make('onnxruntime static', () => peer(args.static!, 'quantize_static.py', 'onnxruntime static'))
    if (args.nncf) await make('nncf', () => peer(args.nncf!, 'quantize_nncf.py', 'nncf'))
  }
}

async function measureAll(folder: string): Promise<void> {
  const there = await readdir(folder)
  const rows = []
  for (const name of chosen) {
    const files: [string, Model][] = []
    for (const file of FILES)
      if (there.includes(`${name}.${file}.onnx`))
        files.push([file, await readModel(join(folder, `${name}.${file}.onnx`))])
    rows.push(...(await measure(name, files)))
    console.table(rows.filter((r) => r.network === name))
    await mkdir(dirname(args.out), { recursive: true })
    await writeFile(args.out, `${JSON.stringify({ machine: machine(), threads: 1, rows }, null, 2)}\n`)
  }
}

const [first, folder] = positionals
if (first === 'prepare') await prepare(folder!)
else await measureAll(first!)
