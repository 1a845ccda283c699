/**
 * Kills ranks of training runs at random moments and starts the runs again:
 *
 *   node --import tsx bench/ranks/kills.ts [--kills 100] [--seed 0] [--ranks 2] [--out bench/results/rank-kills.json]
 *
 * A run of `STEPS` steps with a checkpoint every `EVERY` is started with --resume, one rank (any) is killed (SIGKILL) after
 * a random time, and so on until the run comes to its end; then the next run. Checked after each kill: the checkpoint, if
 * there is one, is whole, is never behind the one before, and is at most `EVERY` steps behind the steps that were logged; at
 * the end of each run: its bytes are those of a run that nobody killed. Adds to the results of earlier calls.
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Rng } from '../../src/base/rng.ts'
import { readModel, writeModel } from '../../src/codec/codec.ts'
import { buildNetwork } from '../../src/models/spec.ts'
import { launcherOf, mnc, run } from '../../test/support/mpi.ts'
import { machine } from '../torch-peer.ts'

const { values: args } = parseArgs({
  options: {
    kills: { type: 'string', default: '100' },
    seed: { type: 'string', default: '0' },
    ranks: { type: 'string', default: '2' },
    out: { type: 'string', default: 'bench/results/rank-kills.json' },
  },
})
const [wanted, ranks] = [Number(args.kills), Number(args.ranks)]

const STEPS = 150
const EVERY = 5
/** One kill of so many comes while the run starts; the others as long after its first step, at most. */
const STARTING = 5
const MOST_MS = 1500

const folder = mkdtempSync(join(tmpdir(), 'mnc-kills-'))
const at = (name: string): string => join(folder, name)
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

const net = buildNetwork({ family: 'lenet', size: 12, mean: [0.286], std: [0.353] }, { seed: 1 })
await writeModel(net, at('net.onnx'))
const words = (name: string): readonly string[] => [
  ...launcherOf('Open MPI').start(ranks),
  ...mnc,
  ...['train', at('net.onnx'), '--data', 'embedded', '--limit', '240', '--batch', '4', '--lr', '0.01', '--ema', '0.9'],
  ...['--epochs', String((STEPS * ranks * 4) / 240), '--threads', '1', '--checkpoint-steps', String(EVERY), '--resume'],
  ...['--log', at(`${name}.jsonl`), '-o', at(`${name}.onnx`)],
]

const undisturbed = await run(words('whole'))
if (undisturbed.code !== 0) throw new Error(undisturbed.err)
const whole = readFileSync(at('whole.onnx'))

const earlier = existsSync(args.out) ? JSON.parse(readFileSync(args.out, 'utf8')) : null
const rng = new Rng(Number(args.seed))
const found = { kills: 0, beforeFirstCheckpoint: 0, runs: 0, mostStepsLost: 0, stepsLost: 0, faults: [] as string[] }
for (let i = 0; found.kills < wanted; i++) await oneRun(`run-${i}`)
console.log(JSON.stringify(found))

/** Until the run is done, or enough were killed. */
async function oneRun(name: string): Promise<void> {
  let reached = 0
  while (!existsSync(at(`${name}.onnx`))) {
    if (found.kills >= wanted) return
    const killed = await life(name)
    if (!killed) continue
    found.kills++
    // the file was there already: nothing is lost
    if (existsSync(at(`${name}.onnx`))) break
    const logged = stepsLogged(at(`${name}.jsonl`))
    const now = await checkpointOf(name)
    if (now === null) found.beforeFirstCheckpoint++
    const lost = Math.max(0, logged - (now ?? 0))
    found.stepsLost += lost
    found.mostStepsLost = Math.max(found.mostStepsLost, lost)
    if (lost > EVERY) found.faults.push(`${name}: ${lost} steps lost at step ${logged}`)
    if ((now ?? 0) < reached) found.faults.push(`${name}: the checkpoint went back from ${reached} to ${now}`)
    reached = now ?? 0
    write()
  }
  found.runs++
  if (!readFileSync(at(`${name}.onnx`)).equals(whole)) found.faults.push(`${name}: other bytes at the end`)
  write()
}

/** Starts the run; whether a rank was killed before it ended. */
async function life(name: string): Promise<boolean> {
  const [command = '', ...rest] = words(name)
  const job = spawn(command, rest, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, MNC_CACHE: 'off' } })
  let err = ''
  job.stderr.on('data', (s: Buffer) => {
    err += s
  })
  let isOver = false
  const ended = new Promise<number | null>((done) =>
    job.on('close', (code) => {
      isOver = true
      done(code)
    }),
  )
  const before = sizeOf(at(`${name}.jsonl`))
  const pause = async (ms: number): Promise<void> => {
    await Promise.race([ended, new Promise((done) => setTimeout(done, ms))])
  }
  const delay = rng.uniform(0, MOST_MS)
  if (rng.integer(STARTING) > 0) while (!isOver && sizeOf(at(`${name}.jsonl`)) <= before) await pause(5)
  await pause(delay)
  const victim = isOver ? null : pidOf(rng.integer(ranks), at(`${name}.onnx`))
  if (victim !== null) process.kill(victim, 'SIGKILL')
  const code = await ended
  if (victim === null && code !== 0) found.faults.push(`${name}: ended with ${code}: ${err}`)
  return victim !== null && code !== 0
}

function sizeOf(path: string): number {
  return existsSync(path) ? statSync(path).size : 0
}

/** The process of a rank; null where it has not begun or has ended. */
function pidOf(rank: number, out: string): number | null {
  for (const pid of readdirSync('/proc').filter((p) => /^\d+$/.test(p))) {
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(out)) continue
      if (readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`OMPI_COMM_WORLD_RANK=${rank}\0`)) return Number(pid)
    } catch {
      // it has ended
    }
  }
  return null
}

function stepsLogged(path: string): number {
  const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n').slice(0, -1) : []
  return Math.max(0, ...lines.map((l) => (JSON.parse(l).lr === undefined ? 0 : JSON.parse(l).step + 1)))
}

/** Its step; a fault where it cannot be read. */
async function checkpointOf(name: string): Promise<number | null> {
  const path = at(`${name}.checkpoint.onnx`)
  if (!existsSync(path)) return null
  try {
    return JSON.parse((await readModel(path)).metadata.get('mnc.training')!).step
  } catch (error) {
    found.faults.push(`${name}: the checkpoint is broken: ${error}`)
    return null
  }
}

/** Adds to the results of earlier calls. */
function write(): void {
  const sum = (key: 'kills' | 'beforeFirstCheckpoint' | 'runs' | 'stepsLost'): number =>
    found[key] + (earlier?.[key] ?? 0)
  const result = {
    ...{ machine: machine(), ranks, stepsOfARun: STEPS, checkpointEvery: EVERY, kills: sum('kills') },
    ...{ beforeFirstCheckpoint: sum('beforeFirstCheckpoint'), runs: sum('runs') },
    mostStepsLost: Math.max(found.mostStepsLost, earlier?.mostStepsLost ?? 0),
    ...{ stepsLost: sum('stepsLost'), faults: [...(earlier?.faults ?? []), ...found.faults] },
  }
  writeFileSync(args.out, `${JSON.stringify(result, null, 2)}\n`)
}
