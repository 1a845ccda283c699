/**
 * Mutants of real model files (test/support/mutate.ts), many more than the tests have time for: the ONNX node tests, and
 * every sixtieth case a model of the zoo. No mutant may crash the process, take over two seconds, or be refused other
 * than by one model error of one line; a model that is read must be the same after writing and reading again.
 *
 *   node --import tsx bench/fuzz.ts [read N] [commands N] [memory N] [graphs N] [datasets N] [recipes N] [again KIND]
 *
 * read: through the library. commands: `mnc info` and `mnc pass fold-bn`, onnxruntime included; exit code 0 or 2.
 * graphs: random models through random passes, exports and training (test/support/graph-case.ts); needs no files.
 * datasets: random data sets, valid and broken, through `mnc eval` (test/support/dataset-case.ts); needs no files.
 * recipes: recipes with random parts wrong, run to their end (test/support/recipe-case.ts); needs no files.
 * again: the cases of a kind that failed, once more; those that no longer do are counted as `fixed`.
 * memory: `mnc convert` of mutants of the larger models in a process each, whose peak above that of a tiny model is held
 * against ten times the file. Cases run in processes that are watched; each is its seed's, and can be run alone:
 * `--child read FROM TO`.
 */
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Rng } from '../src/base/rng.ts'
import { runCommandLine } from '../src/commands/program.ts'
import { Sink } from '../test/cli/sink.ts'
import { nodeTests, zoo } from '../test/graph/files.ts'
import { tryDataset } from '../test/support/dataset-case.ts'
import { type CaseOutcome, TIME_LIMIT, tryMutant } from '../test/support/fuzz-case.ts'
import { tryGraph } from '../test/support/graph-case.ts'
import { mutant } from '../test/support/mutate.ts'
import { tryRecipe } from '../test/support/recipe-case.ts'

const RESULTS = 'bench/results/fuzz.json'
const SEED = 6
/** A process that is still at the same case after this time hangs; long, since the machine may be busy with something else. */
const STUCK_MS = 120_000
const scratch = mkdtempSync(join(tmpdir(), 'mnc-fuzz-'))
const small = nodeTests().sort()
const large = zoo().sort()
const loaded = new Map<string, Buffer>()
function contents(file: string): Buffer {
  const known = loaded.get(file) ?? readFileSync(file)
  loaded.set(file, known)
  return known
}

interface Case {
  readonly file: string
  readonly done: string
  run(): Promise<CaseOutcome>
}

/** Case `i` of a kind, made from nothing but its number. */
function caseOf(kind: string, i: number): Case {
  if (kind === 'graphs') return { file: 'random model', done: `seed ${i}`, run: () => tryRandomGraph(i) }
  if (kind === 'datasets') return { file: 'random data set', done: `seed ${i}`, run: () => tryDataset(i, scratch) }
  if (kind === 'recipes') return { file: 'random recipe', done: `seed ${i}`, run: () => tryRecipe(i, scratch) }
  const { file, bytes, done } = mutantOf(i)
  return { file, done, run: async () => (kind === 'read' ? tryMutant(bytes, dirname(file)) : tryCommands(bytes)) }
}

async function tryRandomGraph(seed: number): Promise<CaseOutcome> {
  const start = performance.now()
  const { steps, refused, faults } = await tryGraph(seed)
  const milliseconds = performance.now() - start
  const code = `${steps.length} steps, ${refused.length} refused`
  return { code, milliseconds, ...(faults.length > 0 && { failure: [steps.join(' | '), ...faults].join('\n') }) }
}

function mutantOf(i: number, from?: readonly string[]): { bytes: Buffer; done: string; file: string } {
  if (small.length === 0 || large.length === 0)
    throw new Error('the node tests (.data/node-tests) and the zoo are needed')
  const rng = new Rng(SEED, i)
  const files = from ?? (i % 60 === 0 ? large : small)
  const file = files[rng.integer(files.length)]!
  return { file, ...mutant(contents(file), contents(small[rng.integer(small.length)]!), rng) }
}

async function tryCommands(bytes: Buffer): Promise<CaseOutcome> {
  const path = join(scratch, 'mutant.onnx')
  writeFileSync(path, bytes)
  const start = process.cpuUsage()
  const spent = (): number => {
    const { user, system } = process.cpuUsage(start)
    return (user + system) / 1000
  }
  let code = ''
  for (const args of [
    ['info', path, '--json'],
    ['pass', 'fold-bn', path, '-o', join(scratch, 'out.onnx')],
  ]) {
    const [stdout, stderr] = [new Sink(), new Sink()]
    const exit = await runCommandLine(args, { stdout, stderr })
    code += `${args[0]} ${exit} `
    const milliseconds = spent()
    if (exit !== 0 && exit !== 2) return { code, milliseconds, failure: `exit ${exit}: ${stderr.text.slice(0, 500)}` }
    if (exit === 2 && stderr.text.trim().split('\n').length > 3)
      return { code, milliseconds, failure: `many lines: ${stderr.text.slice(0, 500)}` }
  }
  const milliseconds = spent()
  return { code: code.trim(), milliseconds, ...(milliseconds > 2 * TIME_LIMIT && { failure: `${milliseconds} ms` }) }
}

interface Summary {
  cases: number
  codes: Record<string, number>
  failures: { case: number; file: string; done: string; failure: string }[]
  slowestMs: number
  peakMB: number
  /** Failed once, and no longer when run again. */
  fixed?: number[]
  /** While it is not finished: how many cases were requested, and how many are left. */
  of?: number
  left?: Range[]
}

/** Runs the cases from `from` to before `to`, noting in `progress` which one it is at. */
async function child(kind: string, from: number, to: number, progress: string): Promise<Summary> {
  const note = openSync(progress, 'w')
  const out: Summary = { cases: 0, codes: {}, failures: [], slowestMs: 0, peakMB: 0 }
  for (let i = from; i < to; i++) {
    writeSync(note, String(i).padStart(12), 0)
    const { file, done, run } = caseOf(kind, i)
    const outcome = await run()
    out.cases++
    out.codes[outcome.code] = (out.codes[outcome.code] ?? 0) + 1
    out.slowestMs = Math.max(out.slowestMs, Math.round(outcome.milliseconds))
    if (outcome.failure) out.failures.push({ case: i, file, done, failure: outcome.failure })
  }
  out.peakMB = Math.round(process.resourceUsage().maxRSS / 1024)
  return out
}

/** A range of cases in a process of its own; a process that dies is a failure of the case it was at, and the range continues after it. */
async function watched(kind: string, from: number, to: number, total: Summary): Promise<void> {
  const progress = join(scratch, `at-${from}`)
  while (from < to) {
    const args = ['--import', 'tsx', 'bench/fuzz.ts', '--child', kind, String(from), String(to), progress]
    const started = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    started.stdout.on('data', (chunk) => {
      text += chunk
    })
    let seen = -1
    const watch = setInterval(() => {
      const at = existsSync(progress) ? Number(readFileSync(progress, 'utf8')) : -1
      if (at >= 0 && at === seen) started.kill('SIGKILL')
      seen = at
    }, STUCK_MS)
    const status = await new Promise<string>((done) =>
      started.on('close', (code, signal) => done(signal ?? String(code))),
    )
    clearInterval(watch)
    if (status === '0') {
      add(total, JSON.parse(text) as Summary)
      return
    }
    const at = Number(readFileSync(progress, 'utf8'))
    const { file, done } = caseOf(kind, at)
    total.failures.push({ case: at, file, done, failure: `the process ended: ${status}` })
    total.cases += at + 1 - from
    from = at + 1
  }
}

function add(to: Summary, from: Summary): void {
  to.cases += from.cases
  for (const [code, n] of Object.entries(from.codes)) to.codes[code] = (to.codes[code] ?? 0) + n
  to.failures.push(...from.failures)
  to.slowestMs = Math.max(to.slowestMs, from.slowestMs)
  to.peakMB = Math.max(to.peakMB, from.peakMB)
}

/** Continues an interrupted run of the same number of cases, and keeps its failures so far. */
async function many(kind: string, count: number): Promise<Summary> {
  const size = kind === 'graphs' || kind === 'recipes' ? 250 : 2500
  const known = (readResults()[kind] ?? {}) as Partial<Summary>
  const total: Summary =
    known.left && known.of === count
      ? { codes: {}, failures: [], cases: 0, slowestMs: 0, peakMB: 0, ...known }
      : { cases: 0, codes: {}, failures: [], slowestMs: 0, peakMB: 0, of: count, left: ranges(count, size) }
  const waiting = [...total.left!]
  let shown = 0
  const worker = async (): Promise<void> => {
    for (let range = waiting.shift(); range; range = waiting.shift()) {
      await watched(kind, ...range, total)
      total.left = total.left!.filter((r) => r !== range)
      total.codes = Object.fromEntries(Object.entries(total.codes).sort(([, a], [, b]) => b - a))
      writeResults(kind, total)
      process.stderr.write(`${kind}: ${total.cases} of ${count}, ${total.failures.length} failures\n`)
      for (; shown < total.failures.length; shown++) {
        const { done, failure } = total.failures[shown]!
        process.stderr.write(`${done}: ${failure}\n`)
      }
    }
  }
  await Promise.all(Array.from({ length: Number(process.env.WORKERS ?? 1) }, worker))
  const { left, of, ...done } = total
  return done
}

async function again(kind: string): Promise<Summary> {
  const known = readResults()[kind] as Summary
  const left: Summary = { cases: 0, codes: {}, failures: [], slowestMs: 0, peakMB: 0 }
  for (const { case: i } of known.failures) await watched(kind, i, i + 1, left)
  const fixed = known.failures.map((f) => f.case).filter((i) => left.failures.every((f) => f.case !== i))
  return { ...known, failures: left.failures, fixed: [...(known.fixed ?? []), ...fixed] }
}

type Range = readonly [from: number, to: number]

const ranges = (count: number, size: number): Range[] =>
  Array.from({ length: Math.ceil(count / size) }, (_, i) => [i * size, Math.min(count, (i + 1) * size)])

const readResults = (): Record<string, unknown> =>
  existsSync(RESULTS) ? JSON.parse(readFileSync(RESULTS, 'utf8')) : {}

function writeResults(kind: string, result: unknown): void {
  const all = { ...readResults(), cpu: cpus()[0]!.model, node: process.version, [kind]: result }
  writeFileSync(RESULTS, `${JSON.stringify(all, null, 2)}\n`)
}

function peakOf(path: string): { mb: number; seconds: number; code: number } {
  const log = join(scratch, 'time')
  const args = ['-q', '-o', log, '-f', '%M %U %S', process.execPath, 'dist/cli.js', 'convert', path, '-o', '/dev/null']
  let code = 0
  try {
    execFileSync('/usr/bin/time', args, { stdio: 'ignore' })
  } catch (error) {
    code = Number((error as { status?: number }).status ?? -1)
  }
  const [kb, user, system] = readFileSync(log, 'utf8').trim().split('\n').at(-1)!.split(' ').map(Number)
  return { mb: kb! / 1024, seconds: user! + system!, code }
}

function memory(count: number): unknown {
  const big = large.filter((f) => statSync(f).size > 1_000_000)
  const bare = peakOf(small[0]!)
  let worst = { ratio: 0, seconds: 0 }
  const failures: string[] = []
  for (let i = 0; i < count; i++) {
    const { bytes, done } = mutantOf(1_000_000 + i, big)
    const path = join(scratch, 'mutant.onnx')
    writeFileSync(path, bytes)
    const { mb, seconds, code } = peakOf(path)
    // a mutant cut to a few bytes says nothing about memory per byte
    const ratio = bytes.length > 500_000 ? ((mb - bare.mb) * 2 ** 20) / bytes.length : 0
    worst = { ratio: Math.max(worst.ratio, ratio), seconds: Math.max(worst.seconds, seconds) }
    if (ratio > 10 || (code !== 0 && code !== 2) || seconds > TIME_LIMIT / 1000)
      failures.push(`case ${1_000_000 + i} (${done}): ${ratio.toFixed(1)} times the file, ${seconds} s, exit ${code}`)
  }
  return {
    cases: count,
    bareMB: Math.round(bare.mb),
    largestTimesFile: Number(worst.ratio.toFixed(2)),
    slowestSeconds: worst.seconds,
    failures,
  }
}

try {
  const [first, ...rest] = process.argv.slice(2)
  if (first === '--child') {
    const [kind = '', from, to, progress = join(scratch, 'at')] = rest
    console.log(JSON.stringify(await child(kind, Number(from), Number(to), progress)))
  } else {
    const args = process.argv.slice(2)
    for (let i = 0; i < args.length; i += 2) {
      const isAgain = args[i] === 'again'
      const [kind, count] = [args[isAgain ? i + 1 : i]!, Number(args[i + 1])]
      const result = isAgain ? await again(kind) : kind === 'memory' ? memory(count) : await many(kind, count)
      console.log(kind, JSON.stringify(result, null, 2))
      writeResults(kind, result)
    }
  }
} finally {
  rmSync(scratch, { recursive: true })
}
