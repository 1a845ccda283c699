/**
 * Kills training runs at random moments and starts them again:
 *
 *   node --import tsx bench/ranks/kills.ts [--kills 1000] [--minutes 7] [--jobs 2] [--ranks 2] [--out bench/results/rank-kills.json]
 *
 * A run of `STEPS` steps with a checkpoint every `EVERY` is started with --resume, one rank or mpirun itself is killed
 * (SIGKILL), and so on until the run comes to its end; then the next run. The moment is drawn: while the victim starts, as a
 * checkpoint's temporary file appears, else any time after its first step.
 *
 * Checked after each kill: all processes of the job end, the message names the rank that was killed (but see `AT_ONCE_MS`), and the checkpoint, if
 * there is one, is whole, is never behind the one before, and is at most `EVERY` steps behind the steps that were logged; at
 * the end of each run: its bytes are those of a run that nobody killed. Adds to the results of earlier calls until there are
 * so many kills, or until the minutes are over. `--jobs` runs go on side by side: most of the time of one is waiting. It is the
 * command of dist/ (`make build`) that runs.
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, watch, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { Rng } from '../../src/base/rng.ts'
import { readModel, writeModel } from '../../src/codec/codec.ts'
import { buildNetwork } from '../../src/models/spec.ts'
import { launcherOf, run } from '../../test/support/mpi.ts'
import { machine } from '../torch-peer.ts'

const { values: args } = parseArgs({
  options: {
    kills: { type: 'string', default: '1000' },
    minutes: { type: 'string', default: '7' },
    jobs: { type: 'string', default: '2' },
    ranks: { type: 'string', default: '2' },
    out: { type: 'string', default: 'bench/results/rank-kills.json' },
  },
})
const ranks = Number(args.ranks)

const STEPS = 240
const EVERY = 5
const MOST_MS = 800
/** One kill of so many is of mpirun. */
const OF_MPIRUN = 8
/** Of so many kills one comes while the run starts, and one as a checkpoint is written. */
const MOMENTS = 4
/**
 * Open MPI 4.1 does not name a rank 0 that dies in its first milliseconds, whatever the program: mpirun then says only that a
 * process ended with a code that is not zero.
 */
const AT_ONCE_MS = 40
/** The processes of a job whose mpirun was killed have so long to end. */
const END_MS = 60_000

const folder = mkdtempSync(join(tmpdir(), 'mnc-kills-'))
const at = (name: string): string => join(folder, name)
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

const net = buildNetwork({ family: 'lenet', size: 12, mean: [0.286], std: [0.353] }, { seed: 1 })
await writeModel(net, at('net.onnx'))
const words = (name: string): readonly string[] => [
  ...launcherOf('Open MPI').start(ranks),
  ...[process.execPath, resolve('dist/cli.js')],
  ...['train', at('net.onnx'), '--data', 'embedded', '--limit', '240', '--batch', '4', '--lr', '0.01', '--ema', '0.9'],
  // on a machine with other work, 20 s may be too few for the first look at the model
  ...['--probe-seconds', '300'],
  ...['--epochs', String((STEPS * ranks * 4) / 240), '--threads', '1', '--checkpoint-steps', String(EVERY), '--resume'],
  ...['--log', at(`${name}.jsonl`), '-o', at(`${name}.onnx`)],
]

const undisturbed = await run(words('whole'))
if (undisturbed.code !== 0) throw new Error(undisturbed.err)
const whole = readFileSync(at('whole.onnx'))

const MOMENT = ['starting', 'writing', 'running'] as const
type Moment = (typeof MOMENT)[number]
/** 'mpirun', or a rank. */
type Victim = 'mpirun' | number

interface Found {
  kills: number
  ofMpirun: number
  starting: number
  writing: number
  beforeFirstCheckpoint: number
  /** Dead in their first milliseconds. */
  unnamed: number
  runs: number
  mostStepsLost: number
  stepsLost: number
  faults: string[]
}
const none = { kills: 0, ofMpirun: 0, starting: 0, writing: 0, beforeFirstCheckpoint: 0, unnamed: 0, runs: 0 }
const found: Found = existsSync(args.out)
  ? JSON.parse(readFileSync(args.out, 'utf8')).found
  : { ...none, mostStepsLost: 0, stepsLost: 0, faults: [] }
const rng = new Rng(found.kills, 1)
const until = performance.now() + 60_000 * Number(args.minutes)
const isOver = (): boolean => found.kills >= Number(args.kills) || performance.now() > until
let started = 0
const oneAfterAnother = async (): Promise<void> => {
  while (!isOver()) await oneRun(`run-${started++}`)
}
await Promise.all(Array.from({ length: Number(args.jobs) }, oneAfterAnother))
console.log(JSON.stringify(found))

/** Until the run is done, or enough were killed. */
async function oneRun(name: string): Promise<void> {
  let reached = 0
  while (!existsSync(at(`${name}.onnx`))) {
    if (isOver()) return
    const moment = MOMENT[Math.min(2, rng.integer(MOMENTS))]!
    const victim = rng.integer(OF_MPIRUN) === 0 ? 'mpirun' : rng.integer(ranks)
    if (!(await life(name, moment, victim, rng.uniform(0, MOST_MS)))) continue
    found.kills++
    if (victim === 'mpirun') found.ofMpirun++
    if (moment !== 'running') found[moment]++
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

/** Starts the run; whether it was killed before it ended. */
async function life(name: string, moment: Moment, victim: Victim, delay: number): Promise<boolean> {
  const [command = '', ...rest] = words(name)
  const job = spawn(command, rest, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, MNC_CACHE: at('cache') },
  })
  let err = ''
  job.stderr.on('data', (s: Buffer) => {
    err += s
  })
  let isOver = false
  const exited = new Promise<number | string>((done) =>
    job.on('exit', (code, signal) => {
      isOver = true
      done(code ?? signal!)
    }),
  )
  const closed = new Promise((done) => job.on('close', done))
  const before = sizeOf(at(`${name}.jsonl`))
  const pause = async (ms: number): Promise<void> => {
    await Promise.race([exited, new Promise((done) => setTimeout(done, ms))])
  }
  const pidNow = (): number | null => (victim === 'mpirun' ? job.pid! : pidOf(victim, at(`${name}.onnx`)))
  const hasBegun = (): boolean => (moment === 'starting' ? pidNow() !== null : sizeOf(at(`${name}.jsonl`)) > before)
  while (!isOver && !hasBegun()) await pause(moment === 'starting' ? 20 : 5)
  await pause(delay)
  if (moment === 'writing' && !isOver) await Promise.race([exited, temporaryOf(`${name}.checkpoint.onnx`)])
  let pid = isOver ? null : pidNow()
  const start = performance.now()
  if (pid !== null && !killed(pid)) pid = null
  const code = await exited
  // ranks hold its stderr
  await Promise.race([closed, new Promise((done) => setTimeout(done, END_MS))])
  await ending(name)
  const how = (): string => `${moment}, ended with ${code} after ${Math.round(performance.now() - start)} ms`
  if (pid === null && code !== 0) found.faults.push(`${name}: ${how()}: ${err}`)
  const isKilled = pid !== null && code !== 0
  if (!isKilled || victim === 'mpirun' || new RegExp(`rank ${victim} .*signal 9`).test(err)) return isKilled
  if (moment === 'starting' && delay < AT_ONCE_MS) found.unnamed++
  else found.faults.push(`${name}: rank ${victim} was killed, but not named: ${how()}: ${err}`)
  return true
}

/** When a temporary file for the checkpoint is made. */
function temporaryOf(file: string): Promise<void> {
  return new Promise((done) => {
    const watcher = watch(folder, (_, name) => {
      if (!name?.includes(file) || name === file) return
      watcher.close()
      done()
    })
  })
}

/** Until no process of the run is left; those that do not end are a fault, and killed. */
async function ending(name: string): Promise<void> {
  const start = performance.now()
  const left = (): number[] => pidsOf(at(`${name}.onnx`))
  while (left().length > 0 && performance.now() - start < END_MS) await new Promise((done) => setTimeout(done, 20))
  for (const pid of left()) {
    found.faults.push(`${name}: process ${pid} goes on without its job`)
    process.kill(pid, 'SIGKILL')
  }
}

function sizeOf(path: string): number {
  return existsSync(path) ? statSync(path).size : 0
}

/** Processes that have `out` among their words. */
function pidsOf(out: string): number[] {
  return readdirSync('/proc')
    .filter((p) => /^\d+$/.test(p) && contentOf(p, 'cmdline').split('\0').includes(out))
    .map(Number)
}

/** The process of a rank; null where it has not begun or has ended. */
function pidOf(rank: number, out: string): number | null {
  const is = (pid: number): boolean => contentOf(pid, 'environ').includes(`OMPI_COMM_WORLD_RANK=${rank}\0`)
  return pidsOf(out).find(is) ?? null
}

/** Whether it was there still. */
function killed(pid: number): boolean {
  try {
    return process.kill(pid, 'SIGKILL')
  } catch {
    return false
  }
}

/** Empty for a process that has ended. */
function contentOf(pid: number | string, what: string): string {
  try {
    return readFileSync(`/proc/${pid}/${what}`, 'utf8')
  } catch {
    return ''
  }
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

function write(): void {
  const result = { machine: machine(), ranks, stepsOfARun: STEPS, checkpointEvery: EVERY, found }
  writeFileSync(args.out, `${JSON.stringify(result, null, 2)}\n`)
}
