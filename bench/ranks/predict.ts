/** What model.ts predicts: efficiency from 2 to 1,024 ranks, what helps where it falls, and the cost of the paper's pipeline. */
import { checkpoints, efficiency, type Link, type Step } from './model.ts'

/** As vendors and MPI benchmarks state them: messages of a few bytes, and what large ones reach. */
const perFloat = { exact: 2e-9, fast: 1.2e-9 }
const LINKS: Readonly<Record<string, Link>> = {
  '1 Gbit/s Ethernet': { latency: 50e-6, bandwidth: 0.117e9, perFloat },
  '10 Gbit/s Ethernet': { latency: 20e-6, bandwidth: 1.15e9, perFloat },
  '100 Gbit/s InfiniBand': { latency: 2e-6, bandwidth: 11e9, perFloat },
}

/** A rank of one core at batch 64: floats of the gradient, seconds of a step as measured here (ranks-speed.json). */
export const NETS: Readonly<Record<string, Pick<Step, 'floats' | 'seconds' | 'spread'>>> = {
  'ResNet-20': { floats: 272_474, seconds: 0.27, spread: 0.05 },
  'DenseNet-BC-40-12': { floats: 176_122, seconds: 0.75, spread: 0.05 },
  'DenseNet-BC-100-12': { floats: 800_000, seconds: 4.5, spread: 0.05 },
}

const RANKS = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
const LEAST = 0.8

const WAYS: Readonly<Record<string, (s: Step) => Step>> = {
  exact: (s) => ({ ...s, reduce: 'exact' }),
  fast: (s) => ({ ...s, reduce: 'fast' }),
  'fast, 8 bits': (s) => ({ ...s, reduce: 'fast', bytes: 1 }),
  'fast, every 4 steps': (s) => ({ ...s, reduce: 'fast', every: 4 }),
  'fast, 8 bits, every 4 steps': (s) => ({ ...s, reduce: 'fast', bytes: 1, every: 4 }),
}

const round = (x: number): number => Number(x.toFixed(3))

export function predictions() {
  const rows = Object.entries(LINKS).flatMap(([link, l]) =>
    Object.entries(NETS).flatMap(([net, n]) =>
      Object.entries(WAYS).map(([way, change]) => {
        const at = RANKS.map((ranks) => {
          const step = change({ ...n, ranks, reduce: 'exact' })
          return [ranks, round(efficiency(l, step, Math.max(8, Math.ceil(40_000 / ranks))))] as const
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
  return { rows, failures }
}
