/**
 * What must hold of any recipe: a sound one on a tiny network, with random parts removed, doubled, moved or replaced by
 * something that should not be there, run to its end. It runs or is refused by one line, within ten seconds of the
 * processor; what ran is up to date when it is run again and leaves nothing half done; nothing is written outside its
 * work folder.
 */
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Rng } from '../../src/base/rng.ts'
import { runCommandLine } from '../../src/commands/program.ts'
import { Sink } from '../cli/sink.ts'
import { idx } from './data-files.ts'
import type { CaseOutcome } from './fuzz-case.ts'

const LIMIT_MS = 10_000

type Json = null | boolean | number | string | Json[] | { [key: string]: Json }

/** The smallest that LeNet takes; with few nodes and one thread of the engine, cases spend their time on what recipes do. */
const SIZE = 12
const IMAGES = 24
const build = { family: 'lenet', size: SIZE, channels: 1 }
const one = { workers: 0, threads: 1 }
const train = { 'max-steps': 1, batch: 4, limit: 16, augment: 'none', ...one }

/** A network with statistics to update, for stages that start from a file. */
function smallNet(): string {
  const rng = new Rng(18)
  const weights = (dims: readonly number[]) =>
    `float32[${dims}] [${Array.from({ length: dims.reduce((a, b) => a * b) }, () => rng.normal().toFixed(3)).join(', ')}]`
  return `onnx {ir_version=8}
opset ai.onnx=15
graph "net"
  input %x : float32[N,1,${SIZE},${SIZE}]
  init %w = ${weights([4, 1, 3, 3])}
  init %g = float32[4] [1.5, 0.5, 1, 2]
  init %be = float32[4] [0.1, 0.2, 0, -0.1]
  init %m = float32[4] [0.3, -0.3, 0, 0]
  init %v = float32[4] [1, 4, 2, 1]
  init %fc = ${weights([4, 10])}
  %c = Conv(%x, %w) #name "conv"
  %n = BatchNormalization(%c, %g, %be, %m, %v) #name "bn"
  %r = Relu(%n) #name "relu"
  %p = GlobalAveragePool(%r) #name "pool"
  %f = Flatten(%p) #name "flatten"
  %y : float32[N,10] = MatMul(%f, %fc) #name "fc"
  output %y
end
`
}

/** Every kind of entry that recipes have. `data`: of ten classes; `net`: a model file. */
const sound = (data: string, net: string): Json => ({
  name: 'sound',
  description: 'everything once',
  data,
  reading: { 'data-memory': 64 },
  seed: 3,
  defaults: {
    train,
    eval: { limit: 8, batch: 4, threads: 1 },
    'bn-update': { limit: 8, batch: 4, workers: 0, augment: 'none' },
  },
  stages: [
    { name: 'dense', build, train: {} },
    {
      ...{ name: 'small', from: net, teacher: 'dense', score: true },
      passes: [
        { prune: { sparsity: 0.5, ops: ['Conv', 'MatMul'] } },
        { quantize: { ops: ['Conv', 'MatMul'], limit: 8, batch: 4, 'weight-bits': 4 } },
      ],
      ...{ train: { loss: 'kl' }, 'bn-update': {} },
    },
    {
      ...{ name: 'packed', from: 'small', export: { format: 'packed', 'allow-larger': true } },
      check: [
        { limit: 8, 'max-drop': '100%' },
        { against: 'dense', limit: 8 },
      ],
    },
  ],
})

/** Both splits as IDX files, made once. */
function smallSet(scratch: string): string {
  const folder = join(scratch, 'small-set')
  if (existsSync(folder)) return folder
  mkdirSync(folder)
  const rng = new Rng(18)
  const bytes = (count: number, below: number) => Uint8Array.from({ length: count }, () => rng.integer(below))
  for (const split of ['train', 't10k']) {
    writeFileSync(
      join(folder, `${split}-images-idx3-ubyte`),
      idx([IMAGES, SIZE, SIZE], bytes(IMAGES * SIZE * SIZE, 256)),
    )
    writeFileSync(join(folder, `${split}-labels-idx1-ubyte`), idx([IMAGES], bytes(IMAGES, 10)))
  }
  return folder
}

const odd: readonly Json[] = [
  ...[null, true, false, 0, 1, -1, 0.5, 2 ** 31, 1e308, -0.1, '', 'dense', 'packed', '..', '../../x', '/etc/passwd'],
  ...['embedded#test', 'folder:nowhere', 'cifar10:.', 'a b', 'é', 'x'.repeat(300), '__proto__', 'NaN', '1e3'],
  ...[[], {}, [[]], { a: 1 }],
]

interface Spot {
  readonly holder: Json[] | { [key: string]: Json }
  readonly key: string | number
}

/** Every place that holds a value. */
function* spots(value: Json): Generator<Spot> {
  if (value === null || typeof value !== 'object') return
  for (const key of Array.isArray(value) ? value.keys() : Object.keys(value)) {
    yield { holder: value, key }
    yield* spots(Array.isArray(value) ? value[Number(key)]! : value[String(key)]!)
  }
}

const get = ({ holder, key }: Spot): Json => (Array.isArray(holder) ? holder[Number(key)]! : holder[String(key)]!)

function set({ holder, key }: Spot, value: Json): void {
  if (Array.isArray(holder)) holder[Number(key)] = value
  else Object.defineProperty(holder, key, { value, enumerable: true, configurable: true, writable: true })
}

function mutate(recipe: Json, rng: Rng): string {
  const all = [...spots(recipe)]
  const pick = <T>(list: readonly T[]): T => list[rng.integer(list.length)]!
  const spot = pick(all)
  const at = String(spot.key)
  const numbers = all.filter((spot) => typeof get(spot) === 'number')
  if (numbers.length > 0 && rng.chance(0.4)) {
    const one = pick(numbers)
    set(one, Number(get(one)) * pick([0, 0.5, 1.5, 2, -1]) + pick([0, 0, 1]))
    return `${String(one.key)} = ${get(one)}`
  }
  const kind = rng.integer(6)
  if (kind === 0) {
    if (Array.isArray(spot.holder)) spot.holder.splice(Number(spot.key), 1)
    else delete spot.holder[at]
    return `without ${at}`
  }
  if (kind === 1) {
    set(spot, pick(odd))
    return `${at} = ${JSON.stringify(get(spot)).slice(0, 40)}`
  }
  if (kind === 2) {
    set(spot, structuredClone(get(pick(all))))
    return `${at} is another part`
  }
  if (kind === 3 && Array.isArray(spot.holder)) {
    spot.holder.push(structuredClone(get(spot)))
    return `${at} twice`
  }
  if (kind === 4 && Array.isArray(spot.holder)) {
    spot.holder.reverse()
    return 'another order'
  }
  if (!Array.isArray(spot.holder)) {
    const value = get(spot)
    delete spot.holder[at]
    set({ holder: spot.holder, key: rng.chance(0.5) ? `${at}s` : at.toUpperCase() }, value)
    return `${at} misspelt`
  }
  set(spot, rng.integer(100) - 20)
  return `${at} a number`
}

async function run(args: readonly string[]): Promise<{ code: number; stderr: string }> {
  const [stdout, stderr] = [new Sink(), new Sink()]
  const code = await runCommandLine(['run', ...args], { stdout, stderr })
  return { code, stderr: stderr.text }
}

/** What the run of a recipe leaves that it should not. */
const leftovers = (folder: string): string[] =>
  existsSync(folder) ? readdirSync(folder).filter((f) => /\.tmp$|^\.|checkpoint|\.best\./.test(f)) : []

export async function tryRecipe(seed: number, scratch: string): Promise<CaseOutcome> {
  const at = join(scratch, `recipe-${seed}`)
  mkdirSync(join(at, 'inner'), { recursive: true })
  const rng = new Rng(seed, 18)
  const recipe = structuredClone(sound(`mnist:${smallSet(scratch)}`, join(at, 'net.txt')))
  const faultless = rng.chance(0.05)
  const done = Array.from({ length: faultless ? 0 : 1 + rng.integer(2) }, () => mutate(recipe, rng))
  const file = join(at, 'recipe.json')
  writeFileSync(join(at, 'net.txt'), smallNet())
  const text = JSON.stringify(recipe)
  writeFileSync(file, rng.chance(0.05) ? text.slice(0, rng.integer(text.length)) : text)
  const work = join(at, 'inner', 'work')
  const faults: string[] = []
  const start = process.cpuUsage()
  let code = -1
  try {
    const first = await run([file, '--workdir', work])
    code = first.code
    if (![0, 2, 3].includes(code)) faults.push(`exit ${code}: ${first.stderr}`)
    const last = first.stderr.trim().split('\n').at(-1) ?? ''
    if (code !== 0 && !last.startsWith('mnc: ')) faults.push(`exit ${code} and no word of why: ${first.stderr}`)
    if (code !== 2) {
      const again = await run([file, '--workdir', work])
      if (again.code !== code) faults.push(`exit ${code}, then ${again.code}: ${again.stderr}`)
      if (/\] \w+: (?!up to date)/.test(again.stderr)) faults.push(`not up to date when run again: ${again.stderr}`)
      if (leftovers(work).length > 0) faults.push(`left behind: ${leftovers(work).join()}`)
    }
    const strangers = [...readdirSync(at), ...readdirSync(join(at, 'inner'))]
    const known = ['recipe.json', 'net.txt', 'inner', 'work']
    if (strangers.some((f) => !known.includes(f))) faults.push(`written outside the work folder: ${strangers.join()}`)
  } catch (error) {
    faults.push(error instanceof Error ? (error.stack ?? error.message) : String(error))
  } finally {
    rmSync(at, { recursive: true, force: true })
  }
  const { user, system } = process.cpuUsage(start)
  const milliseconds = (user + system) / 1000
  if (milliseconds > LIMIT_MS) faults.push(`it took ${milliseconds.toFixed(0)} ms`)
  const what = done.length > 0 ? done.join(', ') : 'as it is'
  return { code: `exit ${code}`, milliseconds, ...(faults.length > 0 && { failure: `${what}: ${faults.join('\n')}` }) }
}
