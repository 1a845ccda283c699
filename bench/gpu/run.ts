/**
 * Training steps on one card, mnc against PyTorch, and where the time of mnc's step goes. One command:
 *
 *   node --import tsx bench/gpu/run.ts [--device webgpu] [--torch-device cuda] [--cases ...] [--batches 64,512]
 *
 * Same ONNX file, weights, batches, loss and optimiser on all sides (bench/torch-peer.ts). Sides: mnc on --device in float32
 * and in mixed precision, PyTorch eager NCHW, eager channels_last, torch.compile, autocast to float16. Every side is a process of its own, the sides take turns, `rounds`
 * times; the median of the steps after the warm-up is the result. A side that fails is recorded with its reason.
 * The profile is onnxruntime's, summed by operator and provider over the steps of one more turn.
 *
 * $PYTHON names an interpreter with torch, onnx and numpy. `make swiftshader` brings a Vulkan loader where the machine
 * has none (vulkan.ts).
 */
import { spawn } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { openDevice } from '../../src/runtime/devices/device.ts'
import { gpuInfo } from '../../src/runtime/gpu-info.ts'
import { machine, mncSide, type Setup, writeBatches, writeNetwork } from '../torch-peer.ts'
import { vulkanEnvironment } from './vulkan.ts'

const LR = 0.01
const THREADS = 2
const sides = ['mnc', 'mnc float16', 'torch nchw', 'torch channels_last', 'torch compile', 'torch float16'] as const
type Side = (typeof sides)[number]

const { values: args } = parseArgs({
  options: {
    device: { type: 'string', default: 'webgpu' },
    'torch-device': { type: 'string', default: 'cuda' },
    cases: { type: 'string', default: 'densenet-bc-100-12,densenet-bc-40-12,resnet-20' },
    batches: { type: 'string', default: '64,512' },
    rounds: { type: 'string', default: '2' },
    steps: { type: 'string', default: '30' },
    warmup: { type: 'string', default: '10' },
    out: { type: 'string', default: 'bench/results/gpu.json' },
    /** Internal: one turn of mnc, in its own process; the setup as JSON. */
    turn: { type: 'string' },
    /** Internal: a prefix; the turn is profiled. */
    profile: { type: 'string' },
  },
})
const [steps, warmUp] = [Number(args.steps), Number(args.warmup)]

interface Turn {
  readonly device: string
  readonly seconds: readonly number[]
  readonly losses: readonly number[]
  readonly loadSeconds?: number
  readonly fallbacks?: readonly unknown[]
  readonly profile?: readonly ProfileLine[]
  /** Nodes of the step as it was given to the engine. */
  readonly nodes?: number
}

interface ProfileLine {
  readonly category: string
  readonly op: string
  readonly provider: string
  readonly calls: number
  readonly milliseconds: number
}

async function mncTurn(setup: Setup, profilePrefix: string | undefined): Promise<Turn> {
  const started = performance.now()
  const executor = await openDevice(args.device)
  const mnc = await mncSide(setup, THREADS, executor, profilePrefix === undefined ? {} : { profilePrefix })
  const loadSeconds = (performance.now() - started) / 1000
  const seconds: number[] = []
  const losses: number[] = []
  for (let i = 0; i < warmUp + steps; i++) {
    const start = performance.now()
    losses.push(await mnc.step(i, LR))
    seconds.push((performance.now() - start) / 1000)
  }
  const { fallbacks, graph } = mnc.runner
  const path = mnc.runner.endProfiling()
  const profile = path === undefined ? undefined : summary(JSON.parse(await readFile(path, 'utf8')) as ProfileEvent[])
  const nodes = [...graph.model.graph.nodes()].length
  await mnc.runner.dispose()
  return {
    ...{ device: executor.device.description, seconds: seconds.slice(warmUp), losses, loadSeconds, fallbacks, nodes },
    ...(profile && { profile }),
  }
}

interface ProfileEvent {
  readonly cat?: string
  readonly name: string
  readonly dur?: number
  readonly args?: { readonly op_name?: string; readonly provider?: string }
}

/** Milliseconds and calls per step, the most expensive first. */
function summary(events: readonly ProfileEvent[]): ProfileLine[] {
  const lines = new Map<string, { category: string; op: string; provider: string; calls: number; us: number }>()
  for (const { cat = '', name, dur = 0, args: a } of events) {
    if (cat === 'Session' || (cat === 'Node' && !name.endsWith('_kernel_time'))) continue
    const [op, provider] = [a?.op_name ?? name.split('|')[0]!, a?.provider ?? '']
    const key = [cat, op, provider].join(' ')
    const line = lines.get(key) ?? { category: cat, op, provider, calls: 0, us: 0 }
    line.calls++
    line.us += dur
    lines.set(key, line)
  }
  const runs = warmUp + steps
  return [...lines.values()]
    .sort((a, b) => b.us - a.us)
    .slice(0, 40)
    .map(({ us, calls, ...rest }) => ({ ...rest, calls: calls / runs, milliseconds: us / 1000 / runs }))
}

function command(side: Side, setup: Setup, profile?: string): readonly [string, readonly string[]] {
  if (side === 'mnc' || side === 'mnc float16') {
    const ours = side === 'mnc' ? setup : { ...setup, precision: 'float16' }
    const own = [
      '--device',
      args.device,
      '--steps',
      args.steps,
      '--warmup',
      args.warmup,
      '--turn',
      JSON.stringify(ours),
    ]
    return [
      process.execPath,
      [...process.execArgv, 'bench/gpu/run.ts', ...own, ...(profile ? ['--profile', profile] : [])],
    ]
  }
  const layout = side === 'torch channels_last' ? 'channels_last' : 'nchw'
  return [
    process.env.PYTHON ?? '/usr/bin/python3',
    [
      ...['bench/torch/reference.py', 'time', setup.model, '--batches', setup.batches, '--batch', String(setup.batch)],
      ...['--shape', ...setup.shape.map(String), '--steps', args.steps, '--warmup', args.warmup, '--lr', String(LR)],
      ...['--device', args['torch-device'], '--layout', layout],
      ...(side === 'torch compile' ? ['--compile'] : side === 'torch float16' ? ['--autocast'] : []),
    ],
  ]
}

/** One turn of a side in a process of its own; the last line of its output if it fails. */
async function turn(side: Side, setup: Setup, env: Record<string, string>, profile?: string): Promise<Turn | string> {
  const [program, words] = command(side, setup, profile)
  const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } })
  let [out, err] = ['', '']
  child.stdout.on('data', (part: Buffer) => {
    out += part
  })
  child.stderr.on('data', (part: Buffer) => {
    err += part
  })
  const code = await new Promise<number | null>((done) => child.on('error', () => done(-1)).on('close', done))
  if (code === 0) return JSON.parse(out.trim().split('\n').at(-1)!) as Turn
  const lines = err.trim().split('\n')
  return lines.find((l) => /Error\b|^mnc:/.test(l)) ?? lines.at(-1) ?? `ended with ${code}`
}

const median = (v: readonly number[]): number => [...v].sort((a, b) => a - b)[v.length >> 1]!

async function measure(setup: Setup, env: Record<string, string>, folder: string) {
  const turns = new Map<Side, Turn[]>(sides.map((s) => [s, []]))
  const failures: Partial<Record<Side, string>> = {}
  for (let round = 0; round < Number(args.rounds); round++)
    for (const side of sides) {
      if (failures[side] !== undefined) continue
      const t = await turn(side, setup, env)
      if (typeof t === 'string') failures[side] = t
      else turns.get(side)!.push(t)
    }
  const result: Record<string, unknown> = {}
  const speeds: Partial<Record<Side, number>> = {}
  for (const [side, all] of turns) {
    const [first] = all
    if (!first) continue
    const { losses, seconds: _, ...facts } = first
    const medianSeconds = median(all.flatMap((t) => t.seconds))
    speeds[side] = setup.batch / medianSeconds
    result[side] = { imagesPerSecond: speeds[side], medianSeconds, ...facts, firstLosses: losses.slice(0, 5) }
  }
  const profiled = failures.mnc === undefined ? await turn('mnc', setup, env, join(folder, 'profile')) : null
  const ratio = (ours: Side, theirs: Side) => {
    const [a, b] = [speeds[ours], speeds[theirs]]
    return a === undefined || b === undefined ? [] : [[`${ours} / ${theirs}`, a / b]]
  }
  const peers = sides.filter((s) => s.startsWith('torch'))
  const ratios = Object.fromEntries(peers.flatMap((p) => [...ratio('mnc', p), ...ratio('mnc float16', p)]))
  const profile = profiled === null || typeof profiled === 'string' ? profiled : profiled.profile
  return { ratios, ...result, failures, profile }
}

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'mnc-gpu-'))
  try {
    const env = await vulkanEnvironment(folder)
    const gpu = gpuInfo()
    console.log(`card: ${gpu?.name ?? 'none found'}`)
    const results: Record<string, unknown> = {}
    for (const batch of args.batches.split(',').map(Number))
      for (const name of args.cases.split(',')) {
        const batches = join(folder, `batches-${batch}.bin`)
        await writeBatches(batches, 4, batch, [3, 32, 32])
        const setup = { model: await writeNetwork(folder, name, 1), batches, batch, shape: [3, 32, 32] }
        const r = await measure(setup, env, folder)
        results[`${name}, batch ${batch}`] = r
        console.log(`${name}, batch ${batch}: ${JSON.stringify(r.ratios)} ${JSON.stringify(r.failures)}`)
      }
    const settings = {
      device: args.device,
      torchDevice: args['torch-device'],
      rounds: Number(args.rounds),
      steps,
      warmUp,
    }
    await mkdir(dirname(args.out), { recursive: true })
    const report = { card: gpu, machine: machine(), settings, ...results }
    await writeFile(args.out, `${JSON.stringify(report, null, 2)}\n`)
    console.log(args.out)
  } finally {
    await rm(folder, { recursive: true })
  }
}

if (args.turn === undefined) await main()
else console.log(JSON.stringify(await mncTurn(JSON.parse(args.turn) as Setup, args.profile)))
