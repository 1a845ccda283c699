/**
 * Whether two builds write the same bytes: runs a fixed list of commands (same-bytes/cases.ts) and a sweep through the
 * library (same-bytes/sweep.ts) with each, and compares exit codes, output and every file. About three minutes on two cores.
 *
 *     node --import tsx scripts/same-bytes.ts BEFORE AFTER [--zoo DIR] [--only WORDS] [--keep]
 *
 * BEFORE and AFTER are checkouts with a build in dist/. Exit code 1 if anything differs, or a command fails that should not;
 * the files are then kept.
 * For how a difference of two models is read: `mnc diff`, and `diff` of `mnc convert --text`.
 */
import { spawn } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { type Case, casesOf } from './same-bytes/cases.ts'
import { makeInputs } from './same-bytes/inputs.ts'
import { isText, normalise } from './same-bytes/normalise.ts'

/** For one command, and for the sweep: several times what they take on a machine that does nothing else. */
const COMMAND_MS = 900_000
const SWEEP_MS = 1_800_000
const WORKERS = 2
/** Differences that are shown of one case. */
const SHOWN = 3

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    zoo: { type: 'string' },
    only: { type: 'string', default: '' },
    keep: { type: 'boolean', default: false },
  },
})
const checkouts = positionals.map((p) => realpathSync(p))
if (checkouts.length !== 2 || !checkouts.every((c) => existsSync(join(c, 'dist/cli.js')))) {
  console.error('give two checkouts with a build: node --import tsx scripts/same-bytes.ts BEFORE AFTER')
  process.exit(2)
}

const scratch = realpathSync(mkdtempSync(join(tmpdir(), 'same-bytes-')))
const root = join(import.meta.dirname, '..')
// names of equal length, for text that is wrapped or aligned
const sides = checkouts.map((checkout, i) => {
  const folder = join(scratch, i === 0 ? 'a' : 'b')
  return { checkout, folder, build: join(folder, 'package') }
})
type Side = (typeof sides)[number]

/** Runs it in `cwd`; its exit code (or signal), output and errors lie there under `name` afterwards. */
async function run(args: readonly string[], cwd: string, name: string, limit: number): Promise<void> {
  const child = spawn(process.execPath, args, {
    cwd,
    env: { ...process.env, NO_COLOR: '1', MNC_CACHE: 'off', COLUMNS: '100' },
  })
  const parts: Record<'stdout' | 'stderr', Buffer[]> = { stdout: [], stderr: [] }
  for (const key of ['stdout', 'stderr'] as const) child[key].on('data', (b: Buffer) => parts[key].push(b))
  const timer = setTimeout(() => child.kill('SIGKILL'), limit)
  const ended = await new Promise<string>((done) => child.on('close', (code, signal) => done(String(signal ?? code))))
  clearTimeout(timer)
  writeFileSync(join(cwd, `${name}.exit.txt`), ended)
  for (const key of ['stdout', 'stderr'] as const)
    writeFileSync(join(cwd, `${name}.${key}.txt`), Buffer.concat(parts[key]))
}

async function runCase({ name, commands }: Case, side: Side): Promise<void> {
  const cwd = join(side.folder, folderOf(name))
  mkdirSync(cwd)
  if (name === SWEEP) {
    const script = join(root, 'scripts/same-bytes/sweep.ts')
    return run(['--import', import.meta.resolve('tsx'), script, side.build], cwd, 'sweep', SWEEP_MS)
  }
  for (const [i, command] of commands.entries())
    await run([join(side.build, 'dist/cli.js'), ...command.split(/ +/)], cwd, `command-${i + 1}`, COMMAND_MS)
}

const SWEEP = 'sweep'
const folderOf = (name: string): string => name.replaceAll(/[ /]/g, '-')

const filesIn = (folder: string): string[] =>
  readdirSync(folder, { recursive: true })
    .map(String)
    .filter((f) => statSync(join(folder, f)).isFile())
    .sort()

/** What of this file differs; null where nothing does. */
function difference(folder: string, file: string): string | null {
  const [a, b] = sides.map((s) => join(s.folder, folder, file)) as [string, string]
  if (!existsSync(a) || !existsSync(b)) return `only ${existsSync(a) ? 'before' : 'after'}`
  const [before, after] = [readFileSync(a), readFileSync(b)]
  if (before.equals(after)) return null
  if (!isText(file)) return `${before.length} and ${after.length} bytes, from byte ${firstOf(before, after)}`
  const [x, y] = [before, after].map((bytes, i) => normalise(bytes.toString('utf8'), sides[i]!.folder).split('\n')) as [
    string[],
    string[],
  ]
  const at = firstOf(x, y)
  if (at === null) return null
  const from = Math.max(0, (firstOf(x[at] ?? '', y[at] ?? '') ?? 0) - 60)
  const shown = (line = '(no such line)'): string => line.slice(from, from + 160)
  return `line ${at + 1}\n      - ${shown(x[at])}\n      + ${shown(y[at])}`
}

function firstOf<T>(a: ArrayLike<T>, b: ArrayLike<T>): number | null {
  for (let i = 0; i < Math.max(a.length, b.length); i++) if (a[i] !== b[i]) return i
  return null
}

mkdirSync(join(scratch, 'in'))
process.chdir(root)
makeInputs(join(scratch, 'in'), join(sides[0]!.checkout, 'dist/cli.js'))
for (const { checkout, folder, build } of sides) {
  mkdirSync(folder)
  // a copy of the package each, at the same place: files of it are named by their path, and sorted by it
  for (const part of ['package.json', 'dist', 'data', 'models', 'schemas'])
    cpSync(join(checkout, part), join(build, part), { recursive: true })
  symlinkSync(join(checkout, 'node_modules'), join(build, 'node_modules'))
  // a copy each, since what a command writes next to its input must not reach the other build
  for (const file of filesIn(join(scratch, 'in'))) {
    mkdirSync(join(folder, 'in', file, '..'), { recursive: true })
    writeFileSync(join(folder, 'in', file), readFileSync(join(scratch, 'in', file)))
  }
}

const cases: Case[] = [{ name: SWEEP, commands: [] }, ...casesOf(values.zoo ? resolve(values.zoo) : null)].filter((c) =>
  c.name.includes(values.only),
)
const jobs = cases.flatMap((c) => sides.map((side) => ({ c, side })))
const start = performance.now()
let differing = 0
let refusals = 0

/** A line of the table, and under it what differs. */
function report({ name, isRefused }: Case): void {
  const folder = folderOf(name)
  const files = [...new Set(sides.flatMap((s) => filesIn(join(s.folder, folder))))].sort()
  const found = files.flatMap((f) => {
    const what = difference(folder, f)
    return what === null ? [] : [`    ${f}: ${what}`]
  })
  differing += found.length
  const exits = files
    .filter((f) => f.endsWith('.exit.txt'))
    .map((f) => readFileSync(join(sides[0]!.folder, folder, f), 'utf8'))
  const refused = exits.filter((e) => e !== '0').length
  const counts = [files.length, refused, found.length].map((n) => String(n).padStart(9))
  console.log(`${name.padEnd(28)} ${counts.join(' ')}`)
  // a command that both refuse compares nothing
  if (refused > 0 && !isRefused) {
    refusals += refused
    console.log(`    exit codes: ${exits.join(' ')}`)
  }
  for (const line of found.slice(0, SHOWN)) console.log(line)
  if (found.length > SHOWN) console.log(`    and ${found.length - SHOWN} more`)
}

console.log(`${'case'.padEnd(28)}     files   refused differing`)
const half = new Set<Case>()
await Promise.all(
  Array.from({ length: WORKERS }, async () => {
    for (let job = jobs.shift(); job; job = jobs.shift()) {
      await runCase(job.c, job.side)
      if (half.has(job.c)) report(job.c)
      half.add(job.c)
    }
  }),
)
const seconds = ((performance.now() - start) / 1000).toFixed(0)
console.log(`\n${differing === 0 ? 'the same bytes' : `${differing} files differ`}, ${seconds} s`)
if (refusals > 0) console.log(`${refusals} commands failed that should not, and so were not compared`)
const isFailed = differing > 0 || refusals > 0
if (isFailed || values.keep) console.log(`in ${scratch}`)
else rmSync(scratch, { recursive: true })
process.exitCode = isFailed ? 1 : 0
