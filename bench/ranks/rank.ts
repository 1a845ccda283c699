/**
 * One process of bench/ranks/speed.ts, alone or a rank under mpirun: trains `steps` steps of a network and prints, from
 * rank 0, what each took in milliseconds: `step` in all; `wait`, until the last rank has come to the exchange of
 * gradients; `exchange`, the exchange itself; `other`, the small ones.
 *
 *   rank.ts '{"model": FILE, "data": REF, "batch": 64, "accumulate": 1, "threads": 1, "steps": 12, "reduce": "exact"}'
 */
import { readModel } from '../../src/codec/codec.ts'
import { openDataset, pixelsOf } from '../../src/data/index.ts'
import type { Group } from '../../src/ranks/group.ts'
import { launched } from '../../src/ranks/launched.ts'
import { MpiGroup } from '../../src/ranks/mpi.ts'
import { trainSteps } from '../../src/train/loop/trainer.ts'

export interface RankSetup {
  readonly model: string
  readonly data: string
  readonly batch: number
  readonly accumulate: number
  readonly threads: number
  readonly steps: number
  readonly reduce: 'exact' | 'fast'
  readonly syncBn?: boolean
}

export interface Timed {
  readonly step: number
  readonly wait: number
  readonly exchange: number
  readonly other: number
}

const setup: RankSetup = JSON.parse(process.argv[2]!)
const launch = launched()
const group = launch ? await MpiGroup.open(launch) : null

let spent = { wait: 0, exchange: 0, other: 0 }
const timed = <T>(what: keyof typeof spent, work: () => T): T => {
  const start = performance.now()
  const result = work()
  spent[what] += performance.now() - start
  return result
}
const watched = (g: Group): Group => ({
  ...{ rank: g.rank, size: g.size },
  foldInOrder(total, values, keep) {
    timed('wait', () => g.gather([0]))
    timed('exchange', () => g.foldInOrder(total, values, keep))
  },
  sum(values) {
    timed('wait', () => g.gather([0]))
    timed('exchange', () => g.sum(values))
  },
  gather: (values) => timed('other', () => g.gather(values)),
})

const model = await readModel(setup.model)
const set = await openDataset(setup.data, 'train')
const preprocess = await pixelsOf(model, set)
const { batch, accumulate, threads, steps, reduce, syncBn = false } = setup
const ranks = group && { group: watched(group), reduce, syncBn, compareEvery: 1_000_000 }
const options = { batch, accumulate, threads, maxSteps: steps, epochs: 1, lr: 0.01, valFraction: 0 }
const rows: Timed[] = []
let mark = 0
for await (const event of trainSteps(model, { data: set, preprocess, options, ...(ranks && { ranks }) })) {
  const now = performance.now()
  if (event.kind === 'step') rows.push({ step: now - mark, ...spent })
  mark = now
  spent = { wait: 0, exchange: 0, other: 0 }
}
if (!group || group.rank === 0) console.log(JSON.stringify(rows))
group?.close()
