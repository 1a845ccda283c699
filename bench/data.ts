/**
 * Images per second that the training loader makes, and the same policies with the Python Imaging Library and numpy in
 * the same run, alternating. Run: node --import tsx bench/data.ts [--json]
 *
 * `a core`: images per second of processor time of one thread, which does not depend on other load; `wall`: of elapsed
 * time. Peer: Debian's python3-pil and python3-numpy; left out where absent. Data: CIFAR-10's test split from .data/ if
 * it is there, else the embedded set's grey images.
 */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BatchFiller } from '../src/data/batch-filler.ts'
import { createLoader, loadPolicy, openPictures, type Preprocess } from '../src/data/index.ts'

const BATCH = 64
const ROUNDS = 5

interface Rate {
  readonly cpu: number
  readonly wall: number
}

const colour = existsSync('.data/cifar-10/test_batch.bin')
const dataset = await openPictures(colour ? 'cifar10:.data/cifar-10#test' : 'embedded#test', 'test')
const { mean, std } = await dataset.statistics()
const preprocess: Preprocess = { scale: 255, mean, std, size: [dataset.height, dataset.width], layout: 'NCHW' }

/** One thread, no loader around it. */
async function ours(augment: string, batches: number): Promise<Rate> {
  const policy = loadPolicy(augment)
  const filler = new BatchFiller({ data: dataset, preprocess, policy, batchSize: BATCH, seed: 1, dropLast: true })
  const images = new Float32Array(BATCH * filler.imageFloats)
  const labels = new Int32Array(BATCH)
  for (let s = 0; s < 50; s++) await filler.fill(s, images, labels)
  const [wall, cpu] = [performance.now(), process.cpuUsage()]
  for (let s = 0; s < batches; s++) await filler.fill(s, images, labels)
  const used = process.cpuUsage(cpu)
  const count = batches * BATCH
  return { cpu: count / ((used.user + used.system) / 1e6), wall: count / ((performance.now() - wall) / 1e3) }
}

/** With the loader's thread, as in training. */
async function loader(augment: string, batches: number): Promise<number> {
  const batchesOf = createLoader(dataset, { batchSize: BATCH, preprocess, augment, seed: 1 })
  let start = 0
  for await (const { step } of batchesOf.batches(0, batches + 50)) if (step === 49) start = performance.now()
  return (batches * BATCH) / ((performance.now() - start) / 1e3)
}

function peer(augment: string, folder: string, count: number): Rate {
  const policy = join(folder, 'policy.json')
  writeFileSync(policy, JSON.stringify(loadPolicy(augment)))
  const size = [dataset.channels, dataset.height, dataset.width].map(String)
  const args = [
    'bench/pil/augment.py',
    policy,
    join(folder, 'images.bin'),
    ...size,
    mean.join(),
    std.join(),
    String(count),
  ]
  return JSON.parse(execFileSync('/usr/bin/python3', args, { encoding: 'utf8' })) as Rate
}

function hasPil(): boolean {
  try {
    execFileSync('/usr/bin/python3', ['-c', 'import PIL, numpy'], { stdio: 'ignore' })
    return dataset.channels === 3
  } catch {
    return false
  }
}

const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1] ?? Number.NaN

const folder = mkdtempSync(join(tmpdir(), 'mnc-bench-'))
writeFileSync(join(folder, 'images.bin'), dataset.take(2000).images)
const withPeer = hasPil()
const goals: Readonly<Record<string, number>> = { standard: 20_000, micronet: 3_000 }
const rows = []
for (const augment of ['standard', 'micronet']) {
  const mine: Rate[] = []
  const theirs: Rate[] = []
  for (let round = 0; round < ROUNDS; round++) {
    mine.push(await ours(augment, 100))
    if (withPeer) theirs.push(peer(augment, folder, 2000))
  }
  const cpu = median(mine.map((r) => r.cpu))
  rows.push({
    augment,
    goal: goals[augment],
    aCore: Math.round(cpu),
    wall: Math.round(median(mine.map((r) => r.wall))),
    loader: Math.round(await loader(augment, 300)),
    ...(withPeer && {
      pilACore: Math.round(median(theirs.map((r) => r.cpu))),
      ratio: Number(median(mine.map((r, i) => r.cpu / theirs[i]!.cpu)).toFixed(2)),
    }),
  })
}
rmSync(folder, { recursive: true })
if (process.argv.includes('--json')) console.log(JSON.stringify({ data: dataset.name, rounds: ROUNDS, rows }, null, 2))
else {
  console.log(`${dataset.name}, batch ${BATCH}, median of ${ROUNDS} rounds; img/s`)
  console.table(rows)
}
