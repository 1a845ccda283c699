/**
 * Speed and peak memory of a training step against PyTorch eager, NCHW and channels_last:
 *
 *   node --import tsx bench/train-speed.ts [--cases densenet-bc-40-12,resnet-20,...] [--rounds 3] [--steps 5]
 *
 * Same weights, batches, loss and optimiser (SGD, momentum 0.9, weight decay 1e-4), two threads each. Every side is a
 * process of its own and the sides take turns, `rounds` times; of each turn the steps after three of warm-up count
 * (15 in all by default), and the median of all turns is the result. Memory is the process's peak. Only ratios within
 * one run say anything: run it on a machine that does nothing else.
 *
 * Native kernels are used where they are built (`make native`); MNC_NATIVE=0 leaves them out.
 *
 * The networks are those of train-cases.ts; train-losses.ts compares their losses.
 *
 * `tiles` (DenseNets): the step computed in 1, 2 and 4 parts of the batch, time against peak memory
 * (src/train/step/tile-batch.ts). `distillation`: student ResNet-20, teacher ResNet-56, KL(student || teacher), PyTorch's
 * teacher in eval mode.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { ortExecutor } from '../src/runtime/ort/ort.ts'
import { machine, mncSide, run, type Setup, torchSide, writeBatches, writeNetwork } from './torch-peer.ts'
import { trainCase, writeStudent } from './train-cases.ts'

const WARM_UP = 3
const THREADS = 2
const LR = 0.01
const sides = ['mnc', 'torch nchw', 'torch channels_last'] as const
type Side = (typeof sides)[number]

interface Turn {
  readonly seconds: readonly number[]
  readonly losses: readonly number[]
  readonly peakBytes: number
  /** Building and loading the step graph, or undefined. */
  readonly loadSeconds?: number
}

const { values: args } = parseArgs({
  options: {
    cases: { type: 'string', default: 'densenet-bc-40-12,resnet-20,densenet-bc-100-12,distillation' },
    batch: { type: 'string', default: '64' },
    rounds: { type: 'string', default: '3' },
    steps: { type: 'string', default: '5' },
    out: { type: 'string', default: 'bench/results/train-speed.json' },
    /** Internal: one turn of mnc, in its own process; the setup as JSON. */
    turn: { type: 'string' },
  },
})
const steps = Number(args.steps)

/** What the child process does: reports its own peak memory. */
async function mncTurn(setup: Setup): Promise<Turn> {
  const started = performance.now()
  const mnc = await mncSide(setup, THREADS)
  const loadSeconds = (performance.now() - started) / 1000
  const seconds: number[] = []
  const losses: number[] = []
  for (let i = 0; i < WARM_UP + steps; i++) {
    const start = performance.now()
    losses.push(await mnc.step(i, LR))
    seconds.push((performance.now() - start) / 1000)
  }
  const peakBytes = process.resourceUsage().maxRSS * 1024
  return { seconds: seconds.slice(WARM_UP), losses, peakBytes, loadSeconds }
}

async function turn(side: Side, setup: Setup): Promise<Turn> {
  if (side === 'mnc') {
    const self = [...process.execArgv, 'bench/train-speed.ts', '--steps', args.steps, '--turn', JSON.stringify(setup)]
    return JSON.parse(await run(process.execPath, self)) as Turn
  }
  const flags = ['--layout', side.slice('torch '.length), '--steps', args.steps, '--warmup', String(WARM_UP)]
  return await torchSide('time', setup, [...flags, '--threads', String(THREADS), '--lr', String(LR)])
}

const median = (v: readonly number[]): number => [...v].sort((a, b) => a - b)[Math.floor(v.length / 2)]!

async function measure(setup: Setup) {
  const turns = new Map<Side, Turn[]>(sides.map((s) => [s, []]))
  for (let round = 0; round < Number(args.rounds); round++)
    for (const side of sides) turns.get(side)!.push(await turn(side, setup))
  const of = (side: Side) => {
    const all = turns.get(side)!
    const seconds = all.flatMap((t) => t.seconds)
    const medianSeconds = median(seconds)
    const peakBytes = Math.max(...all.map((t) => t.peakBytes))
    return { imagesPerSecond: setup.batch / medianSeconds, medianSeconds, peakBytes, seconds, losses: all[0]!.losses }
  }
  const [mnc, nchw, channelsLast] = [of('mnc'), of('torch nchw'), of('torch channels_last')]
  const best = Math.max(nchw.imagesPerSecond, channelsLast.imagesPerSecond)
  return {
    buildAndLoadSeconds: median(turns.get('mnc')!.map((t) => t.loadSeconds ?? 0)),
    ratioToNchw: mnc.imagesPerSecond / nchw.imagesPerSecond,
    ratioToFaster: mnc.imagesPerSecond / best,
    memoryRatio: mnc.peakBytes / Math.min(nchw.peakBytes, channelsLast.peakBytes),
    mnc,
    'torch nchw': nchw,
    'torch channels_last': channelsLast,
  }
}

/** Time and peak memory of mnc's step for each number of tiles, taking turns. */
async function memoryTrade(setup: Setup) {
  const turns = new Map<number, Turn[]>([1, 2, 4].map((n) => [n, []]))
  for (let round = 0; round < Number(args.rounds); round++)
    for (const [tiles, list] of turns) list.push(await turn('mnc', { ...setup, tiles }))
  return [...turns].map(([tiles, list]) => ({
    tiles,
    medianSeconds: median(list.flatMap((t) => t.seconds)),
    peakBytes: Math.max(...list.map((t) => t.peakBytes)),
  }))
}

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'mnc-speed-'))
  const batch = Number(args.batch)
  const results: Record<string, Awaited<ReturnType<typeof measure>> & { tiles?: unknown }> = {}
  try {
    for (const name of args.cases.split(',')) {
      const spec = trainCase(name)
      const teacher = spec.teacher === undefined ? undefined : await writeNetwork(folder, spec.teacher, 2)
      const { shape } = spec
      const batches = join(folder, 'batches.bin')
      await writeBatches(batches, 4, batch, shape)
      const setup = { model: await writeStudent(folder, spec.student), batches, batch, shape, teacher }
      const r = await measure(setup)
      results[name] = r
      for (const side of sides) {
        const { imagesPerSecond, peakBytes } = r[side]
        console.log(`${name}: ${side} ${imagesPerSecond.toFixed(1)} img/s, peak ${(peakBytes / 1e6).toFixed(0)} MB`)
      }
      const [a, b, m] = [r.ratioToNchw, r.ratioToFaster, r.memoryRatio].map((x) => x.toFixed(2))
      console.log(`${name}: mnc / torch nchw ${a}x, / faster torch ${b}x, memory ${m}x`)
      if (!name.startsWith('densenet')) continue
      const trade = await memoryTrade(setup)
      results[name] = { ...r, tiles: trade }
      for (const { tiles, medianSeconds, peakBytes } of trade)
        console.log(`${name}: ${tiles} tiles ${medianSeconds.toFixed(3)} s, peak ${(peakBytes / 1e6).toFixed(0)} MB`)
    }
    const native = (await ortExecutor().nativeKernels?.()) ?? null
    const settings = { native, batch, rounds: Number(args.rounds), steps, warmUp: WARM_UP, threads: THREADS }
    await mkdir(dirname(args.out), { recursive: true })
    await writeFile(args.out, `${JSON.stringify({ machine: machine(), settings, ...results }, null, 2)}\n`)
  } finally {
    await rm(folder, { recursive: true })
  }
}

if (args.turn === undefined) await main()
else console.log(JSON.stringify(await mncTurn(JSON.parse(args.turn) as Setup)))
