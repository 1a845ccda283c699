/**
 * Measures exchanges and steps at 1 to 4 ranks, in shared memory and over links of a given rate (links.ts), fits the model
 * of model.ts to half of the exchanges, and compares the rest, and simulated steps, with what was measured; then predicts up
 * to 1,024 ranks:
 *
 *   node --import tsx bench/ranks/scale.ts [--out bench/results/scale.json] [--predict]
 *
 * Computing is a wait, with a spread as measured on real steps. `--predict` takes the links that an earlier run fitted.
 * Takes root, for the namespaces.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { launcherOf } from '../../test/support/mpi.ts'
import { machine } from '../torch-peer.ts'
import { openLinks } from './links.ts'
import { exchangeSeconds, type Link, type Step, simulate } from './model.ts'
import { predictions } from './predict.ts'

type Reduce = 'exact' | 'fast'
interface Exchange {
  readonly reduce: Reduce
  readonly floats: number
  readonly rounds: number
}
interface TimedStep extends Exchange {
  readonly seconds: number
  readonly spread: number
  readonly seed: number
}
export interface Asked {
  readonly exchanges: readonly Exchange[]
  readonly steps: readonly TimedStep[]
}
export interface Measured {
  readonly exchanges: readonly number[]
  readonly steps: readonly number[]
}

const { values: args } = parseArgs({
  options: {
    out: { type: 'string', default: 'bench/results/scale.json' },
    predict: { type: 'boolean', default: false },
  },
})

/** Gradients of LeNet, ResNet-20 and DenseNet-BC-100-12. */
const SIZES = [15_626, 272_474, 800_000]
const RANKS = [2, 3, 4]
const RATES = ['shared memory', '1gbit', '100mbit', '20mbit'] as const
const reduces: readonly Reduce[] = ['exact', 'fast']

interface Point {
  readonly reduce: Reduce
  readonly ranks: number
  readonly floats: number
  readonly measured: number
}
interface StepPoint extends Point, Step {}

interface Row {
  readonly rate: string
  readonly link: Link
  readonly exchanges: readonly (Point & { readonly modelled: number; readonly fitted: boolean })[]
  readonly steps: readonly (StepPoint & { readonly simulated: number })[]
}

const folder = mkdtempSync(join(tmpdir(), 'mnc-scale-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

function ask(start: readonly string[], asked: Asked): Measured {
  const words = [...start, process.execPath, '--import', 'tsx', 'bench/ranks/exchange-rank.ts', JSON.stringify(asked)]
  const out = execFileSync(words[0]!, words.slice(1), { encoding: 'utf8', timeout: 300_000 })
  return JSON.parse(out.trim().split('\n').at(-1)!)
}

function measure(rate: string): { exchanges: Point[]; steps: StepPoint[] } {
  const links = rate === 'shared memory' ? null : openLinks(Math.max(...RANKS), rate, folder)
  const start = (ranks: number) => links?.start(ranks) ?? launcherOf('Open MPI').start(ranks)
  const exchanges: Point[] = []
  const steps: StepPoint[] = []
  try {
    for (const ranks of RANKS) {
      const asked = SIZES.flatMap((floats) => reduces.map((reduce) => ({ reduce, floats, rounds: 7 })))
      const timed = [0.3, 1].flatMap((seconds, i) =>
        reduces.map((reduce) => ({ reduce, floats: SIZES[1]!, rounds: 10, seconds, spread: 0.05, seed: 1 + i })),
      )
      console.error(`${rate}, ${ranks} ranks`)
      const { exchanges: e, steps: s } = ask(start(ranks), { exchanges: asked, steps: timed })
      exchanges.push(...asked.map(({ reduce, floats }, i) => ({ reduce, ranks, floats, measured: e[i]! })))
      steps.push(...timed.map((t, i) => ({ ...t, ranks, measured: s[i]! })))
    }
  } finally {
    links?.close()
  }
  return { exchanges, steps }
}

/** Least squares of relative errors over latency, 1 / bandwidth and what a float takes, none of them below zero. */
function fit(points: readonly Point[]): Link {
  const unit = (latency: number, bandwidth: number, exact: number, fast: number): Link => ({
    ...{ latency, bandwidth, perFloat: { exact, fast } },
  })
  const none = Number.POSITIVE_INFINITY
  const basis = [unit(1, none, 0, 0), unit(0, 1, 0, 0), unit(0, none, 1, 0), unit(0, none, 0, 1)]
  const rows = points.map((p) => basis.map((link) => exchangeSeconds(link, p) / p.measured))
  const x = basis.map(() => 0)
  // coordinate by coordinate: four numbers, and all of them at least zero
  for (let pass = 0; pass < 20_000; pass++)
    for (const k of basis.keys()) {
      let [up, down] = [0, 0]
      for (const row of rows) {
        const rest = row.reduce((sum, v, j) => (j === k ? sum : sum + v * x[j]!), 0)
        up += row[k]! * (1 - rest)
        down += row[k]! ** 2
      }
      x[k] = Math.max(0, up / down)
    }
  return unit(x[0]!, 1 / x[1]!, x[2]!, x[3]!)
}

const error = (a: number, b: number): number => Math.abs(a / b - 1)
const percent = (x: number): string => `${(100 * x).toFixed(1)} %`

function rowOf(rate: string): Row {
  const { exchanges, steps } = measure(rate)
  const isFitted = ({ floats }: Point): boolean => floats !== SIZES[1]
  const link = fit(exchanges.filter(isFitted))
  return {
    ...{ rate, link },
    exchanges: exchanges.map((p) => ({ ...p, modelled: exchangeSeconds(link, p), fitted: isFitted(p) })),
    steps: steps.map((p) => ({ ...p, simulated: simulate(link, p) })),
  }
}

const known = args.predict ? (JSON.parse(readFileSync(args.out, 'utf8')).rows as readonly Row[]) : null
const rows = known ?? RATES.map(rowOf)
for (const { rate, link, exchanges, steps } of rows) {
  const worst = (list: readonly number[]): string => percent(Math.max(...list))
  const held = exchanges.filter((p) => !p.fitted).map((p) => error(p.modelled, p.measured))
  console.log(
    `${rate}: ${(link.latency * 1e6).toFixed(0)} us, ${(link.bandwidth / 1e6).toFixed(0)} MB/s; exchanges not fitted within ${worst(held)}, steps within ${worst(steps.map((p) => error(p.simulated, p.measured)))}`,
  )
}
const predicted = predictions()
writeFileSync(args.out, `${JSON.stringify({ machine: machine(), rows, predicted }, null, 2)}\n`)
