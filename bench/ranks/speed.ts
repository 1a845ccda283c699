/**
 * Two ranks of one thread against one process of two threads, the same computation (the bits are equal): images per second and
 * how much of a rank's step is communication.
 *
 *   node --import tsx bench/ranks/speed.ts [--cases resnet-20,densenet-bc-40-12,kaist] [--rounds 3] [--steps 8] [--sync-bn]
 *
 * The sides take turns, each a process (or two) of its own; of each turn the steps after three of warm-up count, and the
 * result is the median of all turns. `kaist` is the file that KAIST=FILE names, on CIFAR-100; the others are of models/, on
 * CIFAR-10 below .data. `--sync-bn` adds ranks whose batches are normalised as one (another computation).
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { launcherOf } from '../../test/support/mpi.ts'
import { machine, writeNetwork } from '../torch-peer.ts'
import type { RankSetup, Timed } from './rank.ts'

const { values: args } = parseArgs({
  options: {
    cases: { type: 'string', default: 'resnet-20,densenet-bc-40-12,kaist' },
    rounds: { type: 'string', default: '3' },
    steps: { type: 'string', default: '8' },
    batch: { type: 'string', default: '64' },
    'sync-bn': { type: 'boolean', default: false },
    out: { type: 'string', default: 'bench/results/ranks-speed.json' },
  },
})
const WARM_UP = 3
const RANKS = 2
const batch = Number(args.batch)
const folder = mkdtempSync(join(tmpdir(), 'mnc-ranks-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

const sides = ['process', 'exact', 'fast', ...(args['sync-bn'] ? ['syncBn'] : [])] as const
type Side = (typeof sides)[number]

function turn(side: Side, model: string, data: string): Timed[] {
  const isAlone = side === 'process'
  const setup: RankSetup = {
    ...{
      model,
      data,
      batch,
      steps: WARM_UP + Number(args.steps),
      reduce: side === 'fast' ? 'fast' : 'exact',
      syncBn: side === 'syncBn',
    },
    ...(isAlone ? { accumulate: RANKS, threads: RANKS } : { accumulate: 1, threads: 1 }),
  }
  const words = [
    ...(isAlone ? [] : launcherOf('Open MPI').start(RANKS)),
    ...[process.execPath, '--import', 'tsx', 'bench/ranks/rank.ts', JSON.stringify(setup)],
  ]
  const out = execFileSync(words[0]!, words.slice(1), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
  return JSON.parse(out.trim().split('\n').at(-1)!).slice(WARM_UP)
}

const median = (list: readonly number[]): number => {
  const sorted = [...list].sort((a, b) => a - b)
  const half = sorted.length / 2
  return (sorted[Math.ceil(half) - 1]! + sorted[Math.floor(half)]!) / 2
}

const results: Record<string, unknown> = existsSync(args.out) ? JSON.parse(readFileSync(args.out, 'utf8')).cases : {}
for (const name of args.cases.split(',')) {
  const isKaist = name === 'kaist'
  const model = isKaist ? (process.env.KAIST ?? '') : await writeNetwork(folder, name, 0)
  const data = isKaist ? 'cifar100:.data/cifar-100#train' : 'cifar10:.data/cifar-10#train'
  const rows = new Map<Side, Timed[]>(sides.map((s) => [s, []]))
  for (let r = 0; r < Number(args.rounds); r++)
    for (const side of sides) rows.get(side)!.push(...turn(side, model, data))
  const of = (side: Side) => {
    const list = rows.get(side)!
    const ms = (key: keyof Timed) => Number(median(list.map((t) => t[key])).toFixed(2))
    const step = ms('step')
    const share = (key: 'wait' | 'exchange' | 'other') => Number(median(list.map((t) => t[key] / t.step)).toFixed(4))
    return {
      ...{ steps: list.length, msPerStep: step, imagesPerSecond: Number(((1000 * RANKS * batch) / step).toFixed(1)) },
      ...(side !== 'process' && { exchangeMs: ms('exchange'), otherMs: ms('other'), waitMs: ms('wait') }),
      ...(side !== 'process' && {
        exchangeShare: share('exchange'),
        waitShare: share('wait'),
        otherShare: share('other'),
      }),
    }
  }
  const found = Object.fromEntries(sides.map((side) => [side, of(side)]))
  const ratio = (a: Side, b: Side) => Number((found[a]!.msPerStep / found[b]!.msPerStep).toFixed(3))
  results[name] = {
    ...{ batch, ranks: RANKS, loadAverage: loadavg()[0], ...found },
    ...{ exactAgainstProcess: ratio('process', 'exact'), fastAgainstProcess: ratio('process', 'fast') },
    ...(args['sync-bn'] && { syncBnAgainstExact: ratio('exact', 'syncBn') }),
  }
  writeFileSync(args.out, `${JSON.stringify({ machine: machine(), cases: results }, null, 2)}\n`)
  console.log(name, JSON.stringify(results[name]))
}
