/**
 * A prototype: gradients that go to other ranks in 8 or 4 bits, with and without error feedback, against floats. How well the
 * same small network is trained, on held-out images, mean over seeds:
 *
 *   node --import tsx bench/ranks/gradient-bits.ts [--ranks 2] [--seeds 3] [--out bench/results/gradient-bits.json]
 *
 *   v = g + e;  q = round(v / s), s = max |v| / (2^(bits - 1) - 1) in each block of 1,024;  sent: q s;  e = v - q s
 *
 * Error feedback keeps e for the next step (Seide et al., 2014; Karimireddy et al., 2019); without it, e = 0.
 */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { openDataset, pixelsOf } from '../../src/data/index.ts'
import { buildNetwork } from '../../src/models/spec.ts'
import type { Group } from '../../src/ranks/group.ts'
import { launched } from '../../src/ranks/launched.ts'
import { MpiGroup } from '../../src/ranks/mpi.ts'
import { train } from '../../src/train/loop/trainer.ts'
import { launcherOf } from '../../test/support/mpi.ts'
import { machine } from '../torch-peer.ts'

const { values: args } = parseArgs({
  options: {
    ranks: { type: 'string', default: '2' },
    seeds: { type: 'string', default: '3' },
    out: { type: 'string', default: 'bench/results/gradient-bits.json' },
  },
})

interface Way {
  readonly name: string
  readonly bits: number
  readonly feedback: boolean
}
const WAYS: readonly Way[] = [
  { name: 'floats', bits: 32, feedback: false },
  { name: '8 bits, error feedback', bits: 8, feedback: true },
  { name: '8 bits', bits: 8, feedback: false },
  { name: '4 bits, error feedback', bits: 4, feedback: true },
  { name: '4 bits', bits: 4, feedback: false },
]
const BLOCK = 1024

/** The same group, whose sums are of values in few bits. */
function narrowed(group: MpiGroup, { bits, feedback }: Way): Group {
  if (bits === 32) return group
  const levels = 2 ** (bits - 1) - 1
  let left = new Float32Array(0)
  return {
    ...{ rank: group.rank, size: group.size, gather: (values) => group.gather(values) },
    foldInOrder: (total, values, keep) => group.foldInOrder(total, values, keep),
    sum(values) {
      if (left.length !== values.length) left = new Float32Array(values.length)
      for (let from = 0; from < values.length; from += BLOCK) {
        const to = Math.min(values.length, from + BLOCK)
        let most = 0
        for (let i = from; i < to; i++) most = Math.max(most, Math.abs(values[i]! + left[i]!))
        const step = most / levels || 1
        for (let i = from; i < to; i++) {
          const v = values[i]! + left[i]!
          values[i] = Math.round(v / step) * step
          if (feedback) left[i] = v - values[i]!
        }
      }
      group.sum(values)
    },
  }
}

const launch = launched()
if (launch) {
  const group = await MpiGroup.open(launch)
  const set = await openDataset('embedded', 'train')
  const options = {
    epochs: 4,
    batch: 16,
    lr: 0.1,
    warmupEpochs: 0.5,
    valFraction: 0.2,
    augment: 'none',
    threads: 1,
  } as const
  const found = []
  for (const way of WAYS)
    for (let seed = 0; seed < Number(args.seeds); seed++) {
      const model = buildNetwork({ family: 'resnet', depth: 8, width: 8, channels: 1, size: 28 }, { seed })
      const ranks = { group: narrowed(group, way), reduce: 'fast', syncBn: false, compareEvery: 100 } as const
      const preprocess = await pixelsOf(model, set)
      const { valTop1, loss } = await train(model, { data: set, preprocess, options, seed, ranks })
      found.push({ way: way.name, seed, valTop1, loss })
      if (group.rank === 0) console.error(JSON.stringify(found.at(-1)))
    }
  if (group.rank === 0) console.log(JSON.stringify(found))
  group.close()
} else {
  const words = [...launcherOf('Open MPI').start(Number(args.ranks)), process.execPath, '--import', 'tsx']
  const out = execFileSync(words[0]!, [...words.slice(1), ...process.argv.slice(1)], {
    ...{ encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
  })
  const runs: { way: string; valTop1: number; loss: number }[] = JSON.parse(out.trim().split('\n').at(-1)!)
  const mean = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0) / list.length
  const ways = WAYS.map(({ name, bits }) => {
    const own = runs.filter((r) => r.way === name)
    return { way: name, bits, valTop1: mean(own.map((r) => r.valTop1)), loss: mean(own.map((r) => r.loss)) }
  })
  writeFileSync(args.out, `${JSON.stringify({ machine: machine(), ranks: Number(args.ranks), ways, runs }, null, 2)}\n`)
}
