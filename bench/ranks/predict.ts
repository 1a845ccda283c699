/** What model.ts predicts: efficiency from 2 to 1,024 ranks, what helps where it falls, and the cost of the paper's pipeline. */
import { type Computing, checkpoints, type Exchange, efficiency, exchangeSeconds, type Link } from './model.ts'

type Step = Computing & Exchange

/** Of usual size: what a message of a few bytes takes from program to program, and what large ones reach. */
const LINKS: Readonly<Record<string, Link>> = {
  '1 Gbit/s Ethernet': { latency: 50e-6, bandwidth: 0.117e9 },
  '10 Gbit/s Ethernet': { latency: 20e-6, bandwidth: 1.15e9 },
  '100 Gbit/s InfiniBand': { latency: 2e-6, bandwidth: 11e9 },
}

/** A rank of two cores at batch 64: floats of the gradient, and seconds of a step, about those of the machine that bench/results/train-speed.json is of. */
export const NETS: Readonly<Record<string, Pick<Step, 'floats' | 'seconds' | 'spread'>>> = {
  'ResNet-20': { floats: 272_474, seconds: 0.08, spread: 0.05 },
  'DenseNet-BC-40-12': { floats: 176_122, seconds: 0.24, spread: 0.05 },
  'DenseNet-BC-100-12': { floats: 800_000, seconds: 0.98, spread: 0.05 },
}

/** Seconds that a float takes to be copied and added on the host, with MPI out of the way. */
const PER_FLOAT = 2e-9

const RANKS = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
const LEAST = 0.8

const WAYS: Readonly<Record<string, (s: Step) => Step>> = {
  exact: (s) => ({ ...s, reduce: 'exact' }),
  fast: (s) => ({ ...s, reduce: 'fast' }),
  'fast, 8 bits': (s) => ({ ...s, reduce: 'fast', bytes: 1 }),
  'fast, every 4 steps': (s) => ({ ...s, reduce: 'fast', every: 4 }),
  'fast, 8 bits, every 4 steps': (s) => ({ ...s, reduce: 'fast', bytes: 1, every: 4 }),
}

/** Of models/micronet-cifar100.json: epochs of 782 steps of 64 images, student (S) or teacher (T) trained, T's forward pass for both. */
const EPOCH = 782
const STUDENT = 0.98
/** By its multiply-accumulates, 15.3 times the student's; a forward pass is a third of a step. */
const TEACHER = 15.3 * STUDENT
const PIPELINE: Readonly<Record<string, readonly [epochs: number, seconds: number]>> = {
  teacher: [300, TEACHER],
  student: [300, STUDENT],
  'pruned, a4, w4a4': [900, STUDENT + TEACHER / 3],
  'fc-pruned, fc-w4': [100, STUDENT + TEACHER / 3],
}

const round = (x: number): number => Number(x.toFixed(3))

export function predictions() {
  const rows = Object.entries(LINKS).flatMap(([link, l]) =>
    Object.entries(NETS).flatMap(([net, n]) =>
      Object.entries(WAYS).map(([way, change]) => {
        const at = RANKS.map((ranks) => {
          const step = change({ ...n, ranks, reduce: 'exact' })
          const exchange = exchangeSeconds(l, step) + PER_FLOAT * n.floats
          return [ranks, round(efficiency(step, exchange, Math.max(8, Math.ceil(40_000 / ranks))))] as const
        })
        const falls = at.find(([, e]) => e < LEAST)?.[0] ?? null
        return { link, net, way, efficiency: Object.fromEntries(at), below: falls }
      }),
    ),
  )
  const failures = [1, 16, 128, 1024].map((machines) => {
    // a checkpoint of 10 MB and a start of a step graph; a machine fails once in 3 years
    const { every, lost } = checkpoints(0.5, 30, (3 * 365 * 86_400) / machines)
    return { machines, minutesBetweenCheckpoints: round(every / 60), lost: Number(lost.toExponential(2)) }
  })
  const hours = Object.entries(PIPELINE).map(([stage, [epochs, seconds]]) => ({
    ...{ stage, hours: Math.round((epochs * EPOCH * seconds) / 3600) },
  }))
  return { rows, failures, pipeline: { stages: hours, hours: hours.reduce((sum, h) => sum + h.hours, 0) } }
}
