/**
 * Gradients, loss curves and optimisers of the step graph against PyTorch, same weights and batches:
 *
 *   node --import tsx bench/gradients.ts [--batch 64] [--only densenet-bc-40-12] [--out bench/results/gradients.json]
 *
 * Gates (exit 1): loss of one batch to 1e-5, every parameter's gradient to 1e-3 (L2, relative to the larger of its norm
 * and 1e-6 of the whole gradient's, below which float32 leaves noise), losses of 20 steps to 1e-3; LeNet under each
 * optimiser with a cosine schedule, losses of 20 steps to 1e-5. All relative.
 *
 * A pre-activation within rounding of a ReLU's kink falls on either side by the order of a sum, and moves gradients by up
 * to one percent (float32 PyTorch is as far from float64 there). So gradients are compared for three draws of weights,
 * and the gate is each parameter's best: a wrong rule is wrong in all of them. The worst is printed too.
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import type { OptimizerOptions } from '../src/train/step/optimizers.ts'
import { machine, mncSide, type Setup, torchSide, writeBatches, writeNetwork } from './torch-peer.ts'

const STEPS = 20
const SEEDS = [1, 2, 3] as const
const { values: args } = parseArgs({
  options: {
    batch: { type: 'string', default: '64' },
    only: { type: 'string' },
    threads: { type: 'string', default: '2' },
    /** Where the pipeline's warm-up starts; larger ones amplify rounding beyond 1e-3 within 20 steps. */
    lr: { type: 'string', default: '0.001' },
    out: { type: 'string', default: 'bench/results/gradients.json' },
  },
})

const relative = (a: number, b: number): number => Math.abs(a - b) / Math.abs(b)
const norm = (v: Float32Array): number => Math.sqrt(v.reduce((s, x) => s + x * x, 0))
const worstOf = (a: readonly number[], b: readonly number[]): number => Math.max(...a.map((x, i) => relative(x, b[i]!)))

type Gradients = ReadonlyMap<string, Float32Array>

async function torchGradients(
  setup: Setup,
  file: string,
  dtype: 'float32' | 'float64',
): Promise<{ loss: number; gradients: Gradients }> {
  const flags = ['--out', file, '--threads', args.threads, '--dtype', dtype]
  const { loss, tensors } = await torchSide('grads', setup, flags)
  const flat = new Float32Array(new Uint8Array(await readFile(file)).buffer)
  const part = (offset: number, dims: readonly number[]): Float32Array =>
    flat.slice(offset, offset + dims.reduce((a, b) => a * b, 1))
  return { loss, gradients: new Map(tensors.map((t) => [t.name, part(t.offset, t.dims)])) }
}

/** Error of each parameter's gradient. */
function errorsOf(gradients: Gradients, reference: Gradients): Map<string, number> {
  if (reference.size !== gradients.size) throw new Error('mnc and PyTorch train different parameters')
  const floor = 1e-6 * Math.hypot(...[...reference.values()].map(norm))
  const errors = new Map<string, number>()
  for (const [name, theirs] of reference) {
    const ours = gradients.get(name)
    if (!ours) throw new Error(`mnc has no gradient for '${name}'`)
    errors.set(name, norm(ours.map((x, i) => x - theirs[i]!)) / Math.max(norm(theirs), floor))
  }
  return errors
}

/**
 * Against PyTorch in float64, which is exact here, next to what PyTorch itself computes in float32: where a ReLU's input
 * is within rounding of 0 either may fall on the other side, which moves single gradients. So each parameter's error is
 * the least of three seeds; `worst` is the largest of all.
 */
async function compareGradients(spec: string, setup: Omit<Setup, 'model'>, folder: string) {
  const best = { mnc: new Map<string, number>(), torch: new Map<string, number>() }
  const worst = { mnc: 0, torch: 0 }
  const file = join(folder, 'gradients.bin')
  let lossError = 0
  for (const seed of SEEDS) {
    const one = { ...setup, model: await writeNetwork(folder, spec, seed) }
    const exact = await torchGradients(one, file, 'float64')
    const sides = {
      torch: await torchGradients(one, file, 'float32'),
      mnc: await (await mncSide(one, Number(args.threads))).gradients(),
    }
    lossError = Math.max(lossError, relative(sides.mnc.loss, sides.torch.loss))
    for (const side of ['mnc', 'torch'] as const) {
      for (const [name, error] of errorsOf(sides[side].gradients, exact.gradients)) {
        best[side].set(name, Math.min(error, best[side].get(name) ?? error))
        worst[side] = Math.max(worst[side], error)
      }
    }
  }
  const of = (side: 'mnc' | 'torch') => {
    const errors = [...best[side]].sort((a, b) => b[1] - a[1])
    const [name, error] = errors[0]!
    return { name, error, median: errors[errors.length >> 1]![1], worst: worst[side] }
  }
  return { parameters: best.mnc.size, lossError, mnc: of('mnc'), torch: of('torch') }
}

async function compareCurves(setup: Setup, rates: readonly number[]) {
  const torch = await torchSide('curve', setup, ['--lrs', rates.join(','), '--threads', args.threads])
  const mnc = await mncSide(setup, Number(args.threads))
  const losses: number[] = []
  for (const [i, lr] of rates.entries()) losses.push(await mnc.step(i, lr))
  return { losses, torchLosses: torch.losses, worst: worstOf(losses, torch.losses) }
}

const folder = await mkdtemp(join(tmpdir(), 'mnc-gradients-'))
const results: Record<string, unknown> = {}
let failed = false
function gate(name: string, measured: number, limit: number): void {
  const ok = measured <= limit
  failed ||= !ok
  console.log(`${ok ? 'ok  ' : 'FAIL'} ${name}: ${measured.toExponential(2)} (limit ${limit})`)
}

try {
  const batch = Number(args.batch)
  const batches = join(folder, 'batches.bin')
  await writeBatches(batches, 5, batch, [3, 32, 32])
  for (const spec of ['densenet-bc-40-12', 'resnet-20']) {
    if (args.only !== undefined && args.only !== spec) continue
    const setup = { batches, batch, shape: [3, 32, 32] }
    const gradients = await compareGradients(spec, setup, folder)
    gate(`${spec} loss`, gradients.lossError, 1e-5)
    for (const side of ['torch', 'mnc'] as const) {
      const { name, error, worst, median } = gradients[side]
      const numbers = `median ${median.toExponential(1)}, worst ${worst.toExponential(1)}`
      if (side === 'mnc') gate(`${spec} gradients (${name}; ${numbers})`, error, 1e-3)
      else console.log(`     ${spec} PyTorch's own in float32 (${name}; ${numbers}): ${error.toExponential(2)}`)
    }
    const rates = new Array<number>(STEPS).fill(Number(args.lr))
    const curve = await compareCurves({ ...setup, model: await writeNetwork(folder, spec, SEEDS[0]) }, rates)
    gate(`${spec} losses of ${STEPS} steps`, curve.worst, 1e-3)
    results[spec] = { gradients, curve }
  }
  if (args.only === undefined || args.only === 'optimizers') {
    const optimizers: Record<string, Partial<OptimizerOptions>> = {
      sgd: {},
      nesterov: { nesterov: true },
      adamw: { optimizer: 'adamw', weightDecay: 0.01 },
    }
    const shape = [1, 28, 28]
    const model = await writeNetwork(folder, 'lenet', 1)
    const small = join(folder, 'small.bin')
    await writeBatches(small, 4, 32, shape)
    for (const [name, optimizer] of Object.entries(optimizers)) {
      const top = name === 'adamw' ? 0.001 : 0.01
      const rates = Array.from({ length: STEPS }, (_, i) => (top * (1 + Math.cos((Math.PI * i) / STEPS))) / 2)
      const curve = await compareCurves({ model, batches: small, batch: 32, shape, optimizer }, rates)
      gate(`lenet ${name}, losses of ${STEPS} steps`, curve.worst, 1e-5)
      results[name] = curve
    }
  }
  await mkdir(dirname(args.out), { recursive: true })
  await writeFile(args.out, `${JSON.stringify({ machine: machine(), batch, ...results }, null, 2)}\n`)
} finally {
  await rm(folder, { recursive: true })
}
process.exitCode = failed ? 1 : 0
