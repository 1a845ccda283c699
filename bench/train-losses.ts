/**
 * Loss curves of training steps against PyTorch's, and PyTorch's against itself:
 *
 *   PYTHON=... node --import tsx bench/train-losses.ts [--cases resnet-20,...] [--lrs 0.001,0.01] [--steps 20]
 *
 * Same weights, batches, loss and optimiser (SGD, momentum 0.9, weight decay 1e-4): mnc (with native kernels where they are
 * built) and PyTorch's two layouts, which differ in the order of sums only. A figure is the largest difference from PyTorch in
 * NCHW, relative, over all steps so far. Training amplifies rounding: from the step on at which PyTorch in channels_last has left
 * PyTorch in NCHW by a third of the limit, there is nothing left to compare with.
 *
 * Gate (exit 1): mnc is within 1e-3 for as long as there is; and its gradients of the first step (L2, all parameters together)
 * are no further from those in float64 than twice the further layout's.
 */
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { ortExecutor } from '../src/runtime/ort/ort.ts'
import { machine, mncSide, type Setup, torchSide, writeBatches } from './torch-peer.ts'
import { trainCase, writeStudent } from './train-cases.ts'

const LIMIT = 1e-3
const { values: args } = parseArgs({
  options: {
    cases: {
      type: 'string',
      default:
        'kaist,mobilenet-v2,mobilenet-v3-small,shufflenet-v2,efficientnet-b0,resnet-20,resnet-56,densenet-bc-40-12',
    },
    lrs: { type: 'string', default: '0.001,0.01' },
    steps: { type: 'string', default: '20' },
    batch: { type: 'string', default: '16' },
    threads: { type: 'string', default: '2' },
    out: { type: 'string', default: 'bench/results/train-losses.json' },
  },
})
const steps = Number(args.steps)
const threads = ['--threads', args.threads]

const EXACT = ['--dtype', 'float64']
const peers = { 'torch nchw': [], 'torch channels_last': ['--layout', 'channels_last'] } as const
type Peer = keyof typeof peers

async function mncLosses(setup: Setup, lr: number): Promise<number[]> {
  const mnc = await mncSide(setup, Number(args.threads))
  const losses: number[] = []
  for (let i = 0; i < steps; i++) losses.push(await mnc.step(i, lr))
  await mnc.runner.dispose()
  return losses
}

async function curves(setup: Setup, lr: number) {
  const losses = new Map<Peer | 'mnc', readonly number[]>([['mnc', await mncLosses(setup, lr)]])
  const lrs = ['--lrs', Array<number>(steps).fill(lr).join(',')]
  for (const [peer, flags] of Object.entries(peers) as [Peer, readonly string[]][])
    losses.set(peer, (await torchSide('curve', setup, [...lrs, ...threads, ...flags])).losses)
  const nchw = losses.get('torch nchw')!
  const worst = (side: Peer | 'mnc') => {
    let most = 0
    return losses.get(side)!.map((x, i) => (most = Math.max(most, Math.abs(x - nchw[i]!) / Math.abs(nchw[i]!))))
  }
  const [mnc, itself] = [worst('mnc'), worst('torch channels_last')]
  const lost = itself.findIndex((x) => x > LIMIT / 3)
  const comparable = lost < 0 ? steps : lost
  return {
    ...{ lr, comparableSteps: comparable, mncWhileComparable: comparable === 0 ? 0 : mnc[comparable - 1]! },
    ...{ mnc: mnc.at(-1)!, torchItself: itself.at(-1)! },
    losses: Object.fromEntries(losses),
  }
}

/** Of all parameters together, relative to the norm of the exact gradient; absent ones are zero on both sides. */
async function gradientErrors(setup: Setup, folder: string) {
  const file = join(folder, 'gradients.bin')
  const of = async (flags: readonly string[]) => {
    const { tensors } = await torchSide('grads', setup, ['--out', file, ...threads, ...flags])
    const flat = new Float32Array(new Uint8Array(await readFile(file)).buffer)
    const size = (dims: readonly number[]) => dims.reduce((a, b) => a * b, 1)
    return new Map(tensors.map((t) => [t.name, flat.slice(t.offset, t.offset + size(t.dims))]))
  }
  const exact = await of(EXACT)
  const mnc = await mncSide(setup, Number(args.threads))
  const { gradients } = await mnc.gradients()
  await mnc.runner.dispose()
  const error = (own: ReadonlyMap<string, Float32Array>): number => {
    let [off, all] = [0, 0]
    for (const [name, theirs] of exact) {
      const ours = own.get(name)
      theirs.forEach((x, i) => {
        off += ((ours?.[i] ?? 0) - x) ** 2
        all += x * x
      })
    }
    return Math.sqrt(off / all)
  }
  return {
    mnc: error(gradients),
    torchNchw: error(await of(peers['torch nchw'])),
    torchChannelsLast: error(await of(peers['torch channels_last'])),
  }
}

const folder = await mkdtemp(join(tmpdir(), 'mnc-losses-'))
// other networks' rows stay
const results: Record<string, unknown> = existsSync(args.out) ? JSON.parse(await readFile(args.out, 'utf8')) : {}
let failed = false
const e = (x: number): string => x.toExponential(1)
try {
  const batch = Number(args.batch)
  const batches = join(folder, 'batches.bin')
  for (const name of args.cases.split(',')) {
    const { student, shape } = trainCase(name)
    await writeBatches(batches, 4, batch, shape)
    const setup = { model: await writeStudent(folder, student), batches, batch, shape }
    const gradients = await gradientErrors(setup, folder)
    const { mnc, torchNchw, torchChannelsLast } = gradients
    const right = mnc <= 2 * Math.max(torchNchw, torchChannelsLast)
    failed ||= !right
    const own = `${e(torchNchw)}, ${e(torchChannelsLast)}`
    console.log(`${right ? 'ok  ' : 'FAIL'} ${name} gradients: mnc ${e(mnc)} from float64, PyTorch's layouts ${own}`)
    const rates = []
    for (const lr of args.lrs.split(',').map(Number)) {
      const c = await curves(setup, lr)
      rates.push(c)
      const ok = c.mncWhileComparable <= LIMIT
      failed ||= !ok
      const after = `after ${steps} steps mnc ${e(c.mnc)}, PyTorch itself ${e(c.torchItself)}`
      const what = `${name} at ${lr}: mnc ${e(c.mncWhileComparable)} over ${c.comparableSteps} comparable steps`
      console.log(`${ok ? 'ok  ' : 'FAIL'} ${what}; ${after}`)
    }
    results[name] = { gradients, rates }
  }
  const native = (await ortExecutor().nativeKernels?.()) ?? null
  const settings = { native, batch, steps, threads: Number(args.threads) }
  await mkdir(dirname(args.out), { recursive: true })
  await writeFile(args.out, `${JSON.stringify({ ...results, machine: machine(), settings }, null, 2)}\n`)
} finally {
  await rm(folder, { recursive: true })
}
process.exitCode = failed ? 1 : 0
