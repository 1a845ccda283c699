/**
 * Measures exchanges and steps at 2 to 4 ranks, in shared memory and over links of a given rate (links.ts); compares steps
 * with what model.ts simulates from the exchanges, and the exchanges of one size with its formula, fitted to those of the
 * other sizes; then predicts up to 1,024 ranks (predict.ts):
 *
 *   node --import tsx bench/ranks/scale.ts [--out bench/results/scale.json] [--again]
 *
 * Computing is a wait that varies by 5 %. `--again` takes the measurements of an earlier run. Takes root, for the
 * namespaces.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { launcherOf } from '../../test/support/mpi.ts'
import { machine } from '../torch-peer.ts'
import { openLinks } from './links.ts'
import { exchangeSeconds, type Link, type Reduce, simulate, trafficOf } from './model.ts'
import { predictions } from './predict.ts'

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
    again: { type: 'boolean', default: false },
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
interface StepPoint extends Point {
  readonly seconds: number
  readonly spread: number
}

interface Points {
  readonly rate: string
  readonly exchanges: readonly Point[]
  readonly steps: readonly StepPoint[]
}

const folder = mkdtempSync(join(tmpdir(), 'mnc-scale-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

function ask(start: readonly string[], asked: Asked): Measured {
  const words = [...start, process.execPath, '--import', 'tsx', 'bench/ranks/exchange-rank.ts', JSON.stringify(asked)]
  const out = execFileSync(words[0]!, words.slice(1), { encoding: 'utf8', timeout: 300_000 })
  return JSON.parse(out.trim().split('\n').at(-1)!)
}

function measure(rate: string): Points {
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
  return { rate, exchanges, steps }
}

/** Least squares of relative errors over latency and 1 / bandwidth, neither of them below zero. */
function fit(points: readonly Point[]): Link {
  const rows = points.map((p) => trafficOf(p).map((x) => x / p.measured))
  const x = [0, 0]
  for (let pass = 0; pass < 20_000; pass++)
    for (const k of x.keys()) {
      let [up, down] = [0, 0]
      for (const row of rows) {
        up += row[k]! * (1 - row[1 - k]! * x[1 - k]!)
        down += row[k]! ** 2
      }
      x[k] = Math.max(0, up / down)
    }
  return { latency: x[0]!, bandwidth: 1 / x[1]! }
}

const off = (a: number, b: number): number => Number((a / b - 1).toFixed(3))

function compared({ rate, exchanges, steps }: Points) {
  const links = Object.fromEntries(
    reduces.map((reduce) => [reduce, fit(exchanges.filter((p) => p.reduce === reduce && p.floats !== SIZES[1]))]),
  )
  return {
    ...{ rate, links },
    exchanges: exchanges.map((p) => ({ ...p, formulaOff: off(exchangeSeconds(links[p.reduce]!, p), p.measured) })),
    steps: steps.map((p) => {
      const exchange = exchanges.find((e) => e.reduce === p.reduce && e.ranks === p.ranks && e.floats === p.floats)!
      return { ...p, simulatedOff: off(simulate(p, exchange.measured), p.measured) }
    }),
  }
}

const known: readonly Points[] | null = args.again ? JSON.parse(readFileSync(args.out, 'utf8')).rows : null
const rows = (known ?? RATES.map(measure)).map(compared)
for (const { rate, exchanges, steps } of rows) {
  const within = steps.filter((p) => Math.abs(p.simulatedOff) <= 0.1).length
  const worst = Math.max(...steps.map((p) => Math.abs(p.simulatedOff)))
  const formula = exchanges.filter((p) => p.floats === SIZES[1]).map((p) => p.formulaOff)
  console.log(
    `${rate}: ${within} of ${steps.length} steps within 10 %, worst ${worst}; formula off by ${formula.join(', ')}`,
  )
}
const result = { machine: machine(), rows, predicted: predictions() }
writeFileSync(args.out, `${JSON.stringify(result, null, 2)}\n`)
