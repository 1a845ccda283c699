/**
 * Measures exchanges and steps at 2 to 4 ranks, in shared memory and over links of a given rate and latency (links.ts);
 * compares steps with what model.ts simulates from the exchanges, and the exchanges of one size with its formula, fitted to
 * those of the other sizes; then predicts up to 1,024 ranks (predict.ts). Takes about 7 minutes:
 *
 *   node --import tsx bench/ranks/scale.ts [--out bench/results/scale.json] [--again] [--only '100 Mbit/s']
 *
 * Computing is a wait that varies by 5 %. An exchange counts as steps meet it: after a pause, and by the mean of its times.
 * `--again` takes the measurements of an earlier run, `--only` measures one row of them anew. Takes root, for the namespaces.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { launcherOf } from '../../test/support/mpi.ts'
import { machine } from '../torch-peer.ts'
import { openLinks, type Speed } from './links.ts'
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
    only: { type: 'string' },
  },
})

/** Gradients of LeNet, ResNet-20 and DenseNet-BC-100-12. */
const SIZES = [15_626, 272_474, 800_000]
const RANKS = [2, 3, 4]
/**
 * Between two ranks, Open MPI's btl_tcp_links. On one connection, the answer to an announced message waits behind what goes
 * the same way, and the two directions of an exchange are used one after the other.
 */
const CONNECTIONS = 2
const LINKS: Readonly<Record<string, Speed | null>> = {
  'shared memory': null,
  '1 Gbit/s': { rate: 1000, latency: null },
  '100 Mbit/s': { rate: 100, latency: null },
  '20 Mbit/s': { rate: 20, latency: null },
  '1 Gbit/s, 0.1 ms': { rate: 1000, latency: 0.1 },
  '100 Mbit/s, 1 ms': { rate: 100, latency: 1 },
  '100 Mbit/s, 10 ms': { rate: 100, latency: 10 },
}
/** So many seconds for each exchange, within so many rounds. */
const EXCHANGE = { seconds: 1, least: 2, most: 5 }
const STEPS = 5
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
  /** Milliseconds, two ways; null where the latency is that of the links themselves. */
  readonly ping: number | null
  readonly exchanges: readonly Point[]
  readonly steps: readonly StepPoint[]
  readonly onOneConnection: readonly Point[]
}

const folder = mkdtempSync(join(tmpdir(), 'mnc-scale-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

function ask(start: readonly string[], asked: Asked): Measured {
  const words = [...start, process.execPath, '--import', 'tsx', 'bench/ranks/exchange-rank.ts', JSON.stringify(asked)]
  const out = execFileSync(words[0]!, words.slice(1), { encoding: 'utf8', timeout: 300_000 })
  return JSON.parse(out.trim().split('\n').at(-1)!)
}

async function measure(name: string): Promise<Points> {
  const speed = LINKS[name]!
  const links = speed && (await openLinks(Math.max(...RANKS), speed, folder))
  const start = (ranks: number, connections: number) =>
    links?.start(ranks, connections) ?? launcherOf('Open MPI').start(ranks)
  const exchanges: Point[] = []
  const steps: StepPoint[] = []
  const onOneConnection: Point[] = []
  const about: Link = { latency: (speed?.latency ?? 0) / 1000, bandwidth: ((speed?.rate ?? 1000) * 1e6) / 8 }
  const points = (ranks: number, sizes: readonly number[]) =>
    sizes.flatMap((floats) =>
      reduces.map((reduce) => {
        const rounds = Math.round(EXCHANGE.seconds / exchangeSeconds(about, { reduce, ranks, floats }))
        return { reduce, floats, rounds: Math.min(EXCHANGE.most, Math.max(EXCHANGE.least, rounds)) }
      }),
    )
  const asPoints = (ranks: number, asked: readonly Exchange[], seconds: readonly number[]): Point[] =>
    asked.map(({ reduce, floats }, i) => ({ reduce, ranks, floats, measured: seconds[i]! }))
  try {
    for (const ranks of RANKS) {
      const asked = points(ranks, SIZES)
      const timed = [0.1, 0.3].flatMap((seconds, i) =>
        reduces.map((reduce) => ({ reduce, floats: SIZES[1]!, rounds: STEPS, seconds, spread: 0.05, seed: 1 + i })),
      )
      console.error(`${name}, ${ranks} ranks`)
      const { exchanges: e, steps: s } = ask(start(ranks, CONNECTIONS), { exchanges: asked, steps: timed })
      exchanges.push(...asPoints(ranks, asked, e))
      steps.push(...timed.map((t, i) => ({ ...t, ranks, measured: s[i]! })))
    }
    if (speed && speed.latency === null) {
      const ranks = Math.max(...RANKS)
      const asked = points(ranks, [SIZES[1]!])
      onOneConnection.push(...asPoints(ranks, asked, ask(start(ranks, 1), { exchanges: asked, steps: [] }).exchanges))
    }
  } finally {
    links?.close()
  }
  return { rate: name, ping: links?.ping ?? null, exchanges, steps, onOneConnection }
}

/** A link between ranks that share the cores of one machine: seconds a byte that each core too few adds, as a share of those there are. */
interface SharedLink extends Link {
  readonly sharing: number
}
const CORES = cpus().length
const termsOf = (p: Point): number[] => {
  const [messages, bytes] = trafficOf(p)
  return [messages, bytes, bytes * Math.max(0, p.ranks / CORES - 1)]
}

/** Least squares of relative errors over latency, 1 / bandwidth and what sharing cores adds, none of them below zero. */
function fit(points: readonly Point[]): SharedLink {
  const rows = points.map((p) => termsOf(p).map((x) => x / p.measured))
  const x = [0, 0, 0]
  for (let pass = 0; pass < 20_000; pass++)
    for (const k of x.keys()) {
      let [up, down] = [0, 0]
      for (const row of rows) {
        const rest = row.reduce((sum, term, i) => sum + (i === k ? 0 : term * x[i]!), 0)
        up += row[k]! * (1 - rest)
        down += row[k]! ** 2
      }
      x[k] = down === 0 ? 0 : Math.max(0, up / down)
    }
  return { latency: x[0]!, bandwidth: 1 / x[1]!, sharing: x[2]! }
}

const formulaSeconds = (link: SharedLink, p: Point): number => exchangeSeconds(link, p) + link.sharing * termsOf(p)[2]!

const off = (a: number, b: number): number => Number((a / b - 1).toFixed(3))

function compared({ rate, ping, exchanges, steps, onOneConnection }: Points) {
  const links = Object.fromEntries(
    reduces.map((reduce) => [reduce, fit(exchanges.filter((p) => p.reduce === reduce && p.floats !== SIZES[1]))]),
  )
  return {
    ...{ rate, ping, links, onOneConnection },
    exchanges: exchanges.map((p) => ({ ...p, formulaOff: off(formulaSeconds(links[p.reduce]!, p), p.measured) })),
    steps: steps.map((p) => {
      const exchange = exchanges.find((e) => e.reduce === p.reduce && e.ranks === p.ranks && e.floats === p.floats)!
      return { ...p, simulatedOff: off(simulate(p, exchange.measured), p.measured) }
    }),
  }
}

const predicted = predictions()
/** Rows of the results; those that `--only` leaves out are taken from an earlier run. */
function write(rows: readonly ReturnType<typeof compared>[]): void {
  writeFileSync(args.out, `${JSON.stringify({ machine: machine(), rows, predicted }, null, 2)}\n`)
}

async function measured(): Promise<Points[]> {
  const found: Points[] = args.only && existsSync(args.out) ? known() : []
  for (const name of args.only ? [args.only] : Object.keys(LINKS)) {
    const row = await measure(name)
    const at = found.findIndex(({ rate }) => rate === name)
    found.splice(at < 0 ? found.length : at, at < 0 ? 0 : 1, row)
    write(found.map(compared))
  }
  return found
}

const known = (): Points[] => JSON.parse(readFileSync(args.out, 'utf8')).rows
const rows = (args.again ? known() : await measured()).map(compared)
write(rows)
const shown = (list: readonly number[]): string =>
  list.map((t) => Number((1000 * t).toPrecision(3)).toLocaleString('en')).join(', ')
/** Of ResNet-20's gradient, as rows of the table in docs/scale.md. */
for (const { rate, ping, links, exchanges, steps, onOneConnection } of rows) {
  const within = steps.filter((p) => Math.abs(p.simulatedOff) <= 0.1).length
  const worst = Math.max(...steps.map((p) => Math.abs(p.simulatedOff)))
  const own = exchanges.filter((p) => p.floats === SIZES[1])
  const ms = (reduce: Reduce): string => shown(own.filter((p) => p.reduce === reduce).map((p) => p.measured))
  const formula = own.map((p) => Math.abs(p.formulaOff)).sort((a, b) => a - b)
  const percent = (x: number): string => (100 * x).toFixed(0)
  console.log(
    `| ${rate} | ${ping === null ? '' : ping.toPrecision(4)} | ${ms('exact')} | ${ms('fast')} | ${within} of ${steps.length}, ${percent(worst)} % | ${percent(formula[0]!)} to ${percent(formula.at(-1)!)} % |`,
  )
  const fitted = reduces.map(
    (r) => `${shown([links[r]!.latency])} ms, ${(links[r]!.bandwidth / 1e6).toPrecision(3)} MB/s`,
  )
  console.log(`  fitted: ${fitted.join('; ')}; one connection: ${shown(onOneConnection.map((p) => p.measured))} ms`)
}
