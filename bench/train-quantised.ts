/**
 * Quantisation-aware training with a teacher: a step of mnc against PyTorch eager with the same arithmetic by hand
 * (torch/fake_quant.py), and against mnc's own step of the float network without a teacher:
 *
 *   PYTHON=... node --import tsx bench/train-quantised.ts [--cases resnet-20,kaist] [--bits 4/4,4/8] [--rounds 2] [--steps 4]
 *
 * Weights and activations of the given bits (`insert-fake-quant`, calibrated on the first batch), scales trained (LSQ), the float
 * network as the teacher in inference mode, reverse KL at temperature 1, SGD. Each side is a process of its own, they take turns,
 * and the median of the steps after two of warm-up counts. Processor time beside it tells something on a machine that does other
 * work, too. The losses of the first steps are those of the same computation: their largest difference stands beside.
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { readModel, writeModel } from '../src/codec/codec.ts'
import { Tensor } from '../src/graph/tensor.ts'
import { applyPass } from '../src/pass-manager/manager.ts'
import { insertFakeQuant } from '../src/passes/insert-fake-quant.ts'
import { ortExecutor } from '../src/runtime/ort/ort.ts'
import { machine, mncSide, run, type Setup, torchSide, writeBatches } from './torch-peer.ts'
import { trainCase, writeStudent } from './train-cases.ts'

const WARM_UP = 2
const LR = 0.001
const SHAPE = [3, 32, 32]
const { values: args } = parseArgs({
  options: {
    cases: { type: 'string', default: 'resnet-20,kaist' },
    bits: { type: 'string', default: '4/4,4/8' },
    batch: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '2' },
    steps: { type: 'string', default: '4' },
    threads: { type: 'string', default: '2' },
    out: { type: 'string', default: 'bench/results/train-quantised.json' },
    /** Internal: one turn of mnc, in its own process; the setup as JSON. */
    turn: { type: 'string' },
  },
})
const steps = Number(args.steps)

interface Turn {
  readonly seconds: readonly number[]
  readonly losses: readonly number[]
  /** Processor seconds a step, over all steps that count. */
  readonly processor: number
}

async function mncTurn(setup: Setup): Promise<Turn> {
  const mnc = await mncSide(setup, Number(args.threads))
  const [seconds, losses]: [number[], number[]] = [[], []]
  let from = process.cpuUsage()
  for (let i = 0; i < WARM_UP + steps; i++) {
    if (i === WARM_UP) from = process.cpuUsage()
    const start = performance.now()
    losses.push(await mnc.step(i, LR))
    seconds.push((performance.now() - start) / 1000)
  }
  const { user, system } = process.cpuUsage(from)
  return { seconds: seconds.slice(WARM_UP), losses, processor: (user + system) / 1e6 / steps }
}

type Side = 'mnc float' | 'mnc' | 'torch nchw' | 'torch channels_last'

async function turn(side: Side, setup: Setup): Promise<Turn> {
  if (!side.startsWith('torch')) {
    const self = [...process.execArgv, 'bench/train-quantised.ts', '--steps', args.steps, '--threads', args.threads]
    return JSON.parse(await run(process.execPath, [...self, '--turn', JSON.stringify(setup)])) as Turn
  }
  const flags = ['--layout', side.slice('torch '.length), '--steps', args.steps, '--warmup', String(WARM_UP)]
  const found = await torchSide('time', setup, [...flags, '--threads', args.threads, '--lr', String(LR)])
  return { ...found, processor: found.processorSeconds / steps }
}

async function quantised(path: string, out: string, batches: string, [weights, activations]: readonly number[]) {
  const model = await readModel(path)
  const count = Number(args.batch) * SHAPE.reduce((a, b) => a * b, 1)
  const bytes = new Uint8Array((await readFile(batches)).subarray(0, 4 * count))
  const images = Tensor.float32([Number(args.batch), ...SHAPE], new Float32Array(bytes.buffer, 0, count))
  const input = model.graph.fed[0]!.name
  const calibration = {
    async *batches() {
      yield { [input]: images }
    },
  }
  await applyPass(model, insertFakeQuant, { weightBits: weights!, activationBits: activations! }, { calibration })
  await writeModel(model, out)
  return out
}

const median = (v: readonly number[]): number => [...v].sort((a, b) => a - b)[Math.floor(v.length / 2)]!

async function measure(float: Setup, taught: Setup) {
  const sides: readonly Side[] = ['mnc float', 'mnc', 'torch nchw', 'torch channels_last']
  const turns = new Map<Side, Turn[]>(sides.map((s) => [s, []]))
  for (let round = 0; round < Number(args.rounds); round++)
    for (const side of sides) turns.get(side)!.push(await turn(side, side === 'mnc float' ? float : taught))
  const of = (side: Side) => {
    const all = turns.get(side)!
    const seconds = median(all.flatMap((t) => t.seconds))
    return { seconds, processor: Math.min(...all.map((t) => t.processor)), losses: all[0]!.losses }
  }
  const found = Object.fromEntries(sides.map((s) => [s, of(s)])) as Record<Side, ReturnType<typeof of>>
  const [own, torch] = [found.mnc, [found['torch nchw'], found['torch channels_last']]]
  const best = (key: 'seconds' | 'processor') => Math.min(...torch.map((t) => t[key]))
  const off = Math.max(...own.losses.map((x, i) => Math.abs(x - torch[0]!.losses[i]!)))
  return {
    timesTorch: best('seconds') / own.seconds,
    timesTorchByProcessor: best('processor') / own.processor,
    timesFloat: found['mnc float'].seconds / own.seconds,
    timesFloatByProcessor: found['mnc float'].processor / own.processor,
    lossesOff: off,
    ...found,
  }
}

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'mnc-quantised-'))
  const batch = Number(args.batch)
  const results: Record<string, unknown> = {}
  try {
    const batches = join(folder, 'batches.bin')
    await writeBatches(batches, 4, batch, SHAPE)
    for (const name of args.cases.split(',')) {
      const model = await writeStudent(folder, trainCase(name).student)
      const float = { model, batches, batch, shape: SHAPE }
      for (const bits of args.bits.split(',')) {
        const widths = bits.split('/').map(Number)
        const path = await quantised(model, join(folder, 'quantised.onnx'), batches, widths)
        const r = await measure(float, { ...float, model: path, teacher: model, learnScales: true })
        results[`${name} ${bits}`] = r
        const x = (n: number): string => n.toFixed(2)
        const torch = `${x(r.timesTorch)} times PyTorch (${x(r.timesTorchByProcessor)} by processor time)`
        const own = `${x(r.timesFloat)} times its float step (${x(r.timesFloatByProcessor)})`
        console.log(
          `${name} W${widths[0]}A${widths[1]}: ${torch}, ${own}; losses differ by ${r.lossesOff.toExponential(1)}`,
        )
      }
    }
    const native = (await ortExecutor().nativeKernels?.()) ?? null
    const settings = { native, batch, steps, rounds: Number(args.rounds), threads: Number(args.threads) }
    await mkdir(dirname(args.out), { recursive: true })
    await writeFile(args.out, `${JSON.stringify({ machine: machine(), settings, ...results }, null, 2)}\n`)
  } finally {
    await rm(folder, { recursive: true })
  }
}

if (args.turn === undefined) await main()
else console.log(JSON.stringify(await mncTurn(JSON.parse(args.turn) as Setup)))
