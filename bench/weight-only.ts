/**
 * Weight-only files of a transformer: bytes, distance and speed of each width, with inputs in floats and rounded.
 *
 *   node --import tsx bench/weight-only.ts [--out bench/results/weight-only.json] [MODEL.onnx ...]
 *
 * Without models a transformer of 20 million random parameters (bench/transformer.ts). Every product and table is quantised: groups of 32
 * inputs at 4, 3 and 2 bits, of 128 at 8; `scales` of the least squared error. One thread, one sample, sequences of 1, 16 and 128;
 * times are those of the processor, in turns, least and lower quartile. `cosine` is of the outputs, against floats. Random weights are the
 * hardest to round: nothing in them tells which matter.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { parseArgs } from 'node:util'
import { Rng } from '../src/base/rng.ts'
import { encodeModel, readModel } from '../src/codec/codec.ts'
import { exportModel } from '../src/export/export-model.ts'
import { cloneModel } from '../src/graph/clone.ts'
import type { Model } from '../src/graph/model.ts'
import { Tensor } from '../src/graph/tensor.ts'
import { upgradeModelTo } from '../src/ops/raise-opset.ts'
import { runPass } from '../src/passes/run-pass.ts'
import type { Session } from '../src/runtime/executor.ts'
import { ortExecutor } from '../src/runtime/ort/ort.ts'
import { machine } from './torch-peer.ts'
import { TWENTY_MILLION, transformer } from './transformer.ts'

const { values: args, positionals } = parseArgs({
  options: { out: { type: 'string', default: 'bench/results/weight-only.json' } },
  allowPositionals: true,
})
const LENGTHS = [1, 16, 128]
const ROUNDS = 21
const forms = [
  { bits: 8, group: 128 },
  { bits: 4, group: 32 },
  { bits: 3, group: 32 },
  { bits: 2, group: 32 },
] as const

/** Tokens of the smallest table; masks of ones. */
function feedsOf({ graph }: Model, length: number): Record<string, Tensor> {
  const rng = new Rng(length)
  return Object.fromEntries(
    graph.inputs.map(({ name }) => {
      const draw = (): number => (/mask/.test(name) ? 1 : /type/.test(name) ? 0 : rng.integer(90))
      return [name, Tensor.int64([1, length], Array.from({ length }, draw))]
    }),
  )
}

async function outputOf(session: Session, feeds: Record<string, Tensor>): Promise<Float32Array> {
  return Object.values(await session.run(feeds))[0]!.toFloat32()
}

function cosine(a: Float32Array, b: Float32Array): number {
  let [x, y, z] = [0, 0, 0]
  for (let i = 0; i < a.length; i++) {
    x += a[i]! * b[i]!
    y += a[i]! ** 2
    z += b[i]! ** 2
  }
  return x / Math.sqrt(y * z)
}

/** Milliseconds of the processor, ascending, of each session. */
async function timed(sessions: readonly Session[], feeds: Record<string, Tensor>): Promise<number[][]> {
  const ms = sessions.map((): number[] => [])
  for (let round = -2; round < ROUNDS; round++)
    for (const [i, session] of sessions.entries()) {
      const start = process.cpuUsage()
      await session.run(feeds)
      const { user, system } = process.cpuUsage(start)
      if (round >= 0) ms[i]!.push((user + system) / 1000)
    }
  return ms.map((list) => list.sort((a, b) => a - b))
}

const rounded = (x: number): number => Number(x.toPrecision(4))

async function measure(network: string, float: Model) {
  const bytes = encodeModel(float).length
  const files: { label: string; model: Model; bytes: number }[] = [{ label: 'float', model: float, bytes }]
  for (const { bits, group } of forms) {
    const model = cloneModel(float)
    await runPass(model, 'quantize', {
      ops: ['*'],
      weightBits: bits,
      activationBits: 0,
      weightGroup: group,
      firstLayer: 'quantize',
    })
    for (const roundInputs of [false, true]) {
      const made = await exportModel(model, { format: 'weight-only', roundInputs })
      files.push({
        label: `${bits} bits${roundInputs ? ', rounded inputs' : ''}`,
        model: made.model,
        bytes: made.report.bytes,
      })
    }
  }
  const sessions = []
  for (const { model } of files) sessions.push(await ortExecutor().load(model, { threads: 1 }))
  const rows = []
  for (const length of LENGTHS) {
    const feeds = feedsOf(float, length)
    const want = await outputOf(sessions[0]!, feeds)
    const ms = await timed(sessions, feeds)
    for (const [i, { label, bytes: size }] of files.entries())
      rows.push({
        ...{ network, file: label, bytes: size, share: rounded(size / bytes), length },
        cosine: Number(cosine(want, await outputOf(sessions[i]!, feeds)).toFixed(6)),
        ...{ least: rounded(ms[i]![0]!), quartile: rounded(ms[i]![Math.floor(ROUNDS / 4)]!) },
        timesFloat: rounded(ms[0]![0]! / ms[i]![0]!),
      })
  }
  for (const s of sessions) await s.dispose()
  console.table(rows)
  return rows
}

const networks: (readonly [string, Model])[] = []
for (const path of positionals) networks.push([basename(path, '.onnx'), await readModel(path)])
if (networks.length === 0) networks.push(['transformer, 20 million', transformer(TWENTY_MILLION, 1)])
const rows = []
for (const [name, model] of networks) {
  upgradeModelTo(model, Math.max(model.opset, 21))
  rows.push(...(await measure(name, model)))
}
await mkdir(dirname(args.out), { recursive: true })
await writeFile(args.out, `${JSON.stringify({ machine: machine(), threads: 1, rows }, null, 2)}\n`)
