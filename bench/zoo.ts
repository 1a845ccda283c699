/**
 * The zoo table: what mnc does with models exported by other tools, column by column, each model in a process of its own.
 * Writes docs/zoo.md and bench/results/zoo.json.
 *
 *   node --import tsx bench/zoo.ts [FOLDER | FILE ...]        default: ../shared/zoo
 *
 *   round trip   reading and writing gives the same protobuf content
 *   runs         onnxruntime runs it on random inputs of the graph's own types
 *   passes       upgrade-opset, fold-constants, eliminate-dead, fold-bn: largest relative change of any float output
 *   W8A8         quantize to 8 bits with calibration on random inputs: signal to quantisation noise of the outputs
 *   prune 50 %   fraction of zeros in the pruned weights, and whether the file runs
 *   distil       the pruned model learns the original's outputs for 5 steps on one random batch: loss before and after
 *   export       bytes before and of the packed file of the pruned model with 4-bit weights (activations stay float: their
 *                rounding turns float noise into whole steps)
 *   check        largest relative difference of the exported file from the model it was made from
 */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { MncError } from '../src/base/errors.ts'
import { checkModels } from '../src/check/check.ts'
import { encodeModel, readModel, writeModel } from '../src/codec/codec.ts'
import { calibrationData } from '../src/data/index.ts'
import { exportModel } from '../src/export/export-model.ts'
import { cloneModel } from '../src/graph/clone.ts'
import type { Model } from '../src/graph/model.ts'
import type { Tensor } from '../src/graph/tensor.ts'
import { weightLayers } from '../src/layers/layers.ts'
import { runPass } from '../src/passes/run-pass.ts'
import { ortExecutor } from '../src/runtime/ort/ort.ts'
import { randomInputs } from '../src/samples/random-inputs.ts'
import { train } from '../src/train/loop/trainer.ts'
import { firstDifference } from '../test/graph/wire.ts'

interface Cell {
  readonly ok: boolean
  readonly text: string
}
type Row = Record<string, Cell>

const COLUMNS = ['round trip', 'runs', 'passes', 'W8A8', 'prune 50 %', 'distil', 'export', 'check'] as const
type Column = (typeof COLUMNS)[number]

const PASSES = ['upgrade-opset', 'fold-constants', 'eliminate-dead', 'fold-bn'] as const
/** Samples in a random batch, if the model leaves that open. */
const BATCH = 4
/** Learning rates, tried in turn: a rate at which one model learns makes another diverge. */
const RATES = [2e-4, 2e-5, 2e-6]
/** Rounding through a deep network; a wrong rewrite is far above it. */
const SAME = 2e-3

/**
 * A model that came with quantised activations differs from itself between optimisation levels (`check` calls that its
 * noise); an exported file may differ by this factor more.
 */
const NOISE = 3

type Outputs = Readonly<Record<string, Tensor>>

async function runModel(model: Model, feeds: Outputs): Promise<Outputs> {
  const session = await ortExecutor().load(model)
  try {
    const wanted = model.graph.outputs.filter((v) => v.type !== null).map((v) => v.name)
    return await session.run(feeds, wanted)
  } finally {
    await session.dispose()
  }
}

/** Signal and noise of `b` against `a` over all outputs, and the largest relative difference. */
function compare(a: Outputs, b: Outputs): { relative: number; sqnr: number } {
  let [signal, noise, relative] = [0, 0, 0]
  for (const [name, x] of Object.entries(a)) {
    if (x.type === 'string') continue
    const [p, q] = [x.toNumbers(), b[name]!.toNumbers()]
    if (p.length !== q.length) return { relative: Number.POSITIVE_INFINITY, sqnr: Number.NEGATIVE_INFINITY }
    let [largest, error] = [1e-12, 0]
    for (let i = 0; i < p.length; i++) {
      const [u, v] = [Number(p[i]), Number(q[i])]
      largest = Math.max(largest, Math.abs(u))
      error = Math.max(error, Math.abs(u - v))
      signal += u * u
      noise += (u - v) ** 2
    }
    relative = Math.max(relative, error / largest)
  }
  return { relative, sqnr: noise === 0 ? Number.POSITIVE_INFINITY : 10 * Math.log10(signal / noise) }
}

const decibels = (x: number): string => (Number.isFinite(x) ? `${x.toFixed(1)} dB` : 'equal')

/** The file, and its external data if it is in a folder of its own. */
const filesBeside = (path: string): string[] =>
  readdirSync(dirname(path))
    .filter((f) => f === basename(path) || (f.startsWith(basename(path)) && !f.endsWith('.onnx')))
    .map((f) => join(dirname(path), f))

async function roundTrip(path: string): Promise<Cell> {
  const model = await readModel(path)
  const folder = mkdtempSync(join(tmpdir(), 'zoo-'))
  try {
    const external = filesBeside(path).length > 1
    const out = join(folder, basename(path))
    if (external) {
      await writeModel(model, out, { externalData: true })
      const difference = firstDifference(
        Buffer.from(encodeModel(await readModel(out))),
        Buffer.from(encodeModel(model)),
      )
      return { ok: !difference, text: difference ?? 'same content, external data too' }
    }
    await writeModel(model, out)
    const [before, after] = [readFileSync(path), readFileSync(out)]
    if (!firstDifference(before, after)) return { ok: true, text: 'same' }
    const difference = firstDifference(before, after, 'Model', true)
    return { ok: !difference, text: difference ?? 'same, nodes sorted' }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** All columns of one model. Later columns use what earlier ones made. */
async function rowOf(path: string): Promise<Row> {
  const row: Row = {}
  const column = async (name: Column, work: () => Promise<Cell>): Promise<void> => {
    try {
      row[name] = await work()
    } catch (error) {
      const text = error instanceof MncError ? error.describe() : `CRASH ${String(error)}`
      row[name] = { ok: false, text }
    }
  }
  await column('round trip', () => roundTrip(path))
  const model = await readModel(path)
  let feeds: Outputs | null = null
  let want: Outputs | null = null
  await column('runs', async () => {
    feeds = (await randomInputs(model, BATCH)).feeds(1)
    want = await runModel(model, feeds)
    const shown = Object.values(want).map((t) => `${t.type}[${t.dims.join(',')}]`)
    return { ok: true, text: shown.join(' ') }
  })
  const runs = (): { feeds: Outputs; want: Outputs } => {
    if (!feeds || !want) throw new MncError('onnxruntime does not run it', { code: 'engine', blame: 'model' })
    return { feeds, want }
  }
  await column('passes', async () => {
    const changed: string[] = []
    const refused: string[] = []
    let worst = 0
    for (const name of PASSES) {
      const copy = cloneModel(model)
      try {
        if ((await runPass(copy, name)).changed) changed.push(name)
      } catch (error) {
        if (want || !(error instanceof MncError)) throw error
        refused.push(`${name} refuses: ${error.describe()}`)
        continue
      }
      if (want) worst = Math.max(worst, compare(want, await runModel(copy, runs().feeds)).relative)
    }
    const facts = [
      `${changed.length} of ${PASSES.length} changed it`,
      want ? worst.toExponential(1) : 'not run',
      ...refused,
    ]
    return { ok: worst <= SAME, text: facts.join('; ') }
  })
  const layers = weightLayers(model.graph)
  const ops = [...new Set(layers.flatMap((l) => l.users.map((n) => n.op)))]
  let pruned: Model | null = null
  let quantised: Model | null = null
  await column('W8A8', async () => {
    const copy = cloneModel(model)
    const calibration = await calibrationData(copy, 'random', { limit: 4 * BATCH, batch: BATCH })
    await runPass(
      copy,
      'quantize',
      { weightBits: 8, activationBits: 8, ...(ops.length > 0 && { ops }) },
      { calibration },
    )
    const { sqnr } = compare(runs().want, await runModel(copy, runs().feeds))
    return { ok: Number.isFinite(sqnr) || sqnr > 0, text: decibels(sqnr) }
  })
  await column('prune 50 %', async () => {
    const copy = cloneModel(model)
    const { declined } = await runPass(copy, 'prune', { sparsity: 0.5, ...(ops.length > 0 && { ops }) })
    let [zeros, all] = [0, 0]
    for (const l of weightLayers(copy.graph)) {
      const mask = l.mask?.constant?.toFloat32()
      if (!mask) continue
      all += mask.length
      zeros += mask.reduce((n, m) => n + (m === 0 ? 1 : 0), 0)
    }
    pruned = copy
    const { sqnr } = compare(runs().want, await runModel(copy, runs().feeds))
    const left = declined.length > 0 ? `; ${declined.length} left: ${declined[0]!.reason}` : ''
    const share = all === 0 ? 0 : zeros / all
    return { ok: Math.abs(share - 0.5) < 0.02, text: `${(100 * share).toFixed(1)} % zeros, ${decibels(sqnr)}${left}` }
  })
  const distil = async (lr: number): Promise<Cell> => {
    const student = cloneModel(pruned ?? model)
    const losses: number[] = []
    await train(
      student,
      {
        data: 'random',
        teacher: { model },
        options: {
          ...({ loss: 'mse', optimizer: 'adamw', lr, schedule: 'constant', bn: 'frozen' } as const),
          ...{ batch: BATCH, limit: BATCH, epochs: 5, maxSteps: 5 },
        },
      },
      (event) => {
        if (event.kind === 'step') losses.push(event.loss)
      },
    )
    await runModel(student, runs().feeds)
    const [first, last] = [losses[0]!, losses.at(-1)!]
    return { ok: last < first, text: `${first.toPrecision(3)} -> ${last.toPrecision(3)}` }
  }
  await column('distil', async () => {
    for (const lr of RATES) {
      const cell = await distil(lr)
      if (cell.ok || lr === RATES.at(-1)) return cell
    }
    throw new Error('there are rates')
  })
  await column('export', async () => {
    const copy = cloneModel(pruned ?? model)
    try {
      const calibration = await calibrationData(copy, 'random', { limit: 4 * BATCH, batch: BATCH })
      await runPass(
        copy,
        'quantize',
        { weightBits: 4, activationBits: 0, ...(ops.length > 0 && { ops }) },
        { calibration },
      )
    } catch (error) {
      if (!(error instanceof MncError) || error.code !== 'already-quantized') throw error
    }
    quantised = copy
    const { model: made, report } = await exportModel(copy, { format: 'packed' })
    await column('check', async () => {
      const result = await checkModels(quantised!, made, { seed: 3 })
      const { maxRelError, reference } = result
      const noise = reference.noise?.maxRelError ?? 0
      const text = `${maxRelError.toExponential(1)}${noise > 1e-4 ? ` (own noise ${noise.toExponential(1)})` : ''}`
      const half = model.graph.outputs.some((v) => v.type?.elem === 'float16') ? 2 ** -9 : 0
      return { ok: maxRelError <= Math.max(1e-4, half, NOISE * noise), text }
    })
    const before = filesBeside(path).reduce((n, f) => n + statSync(f).size, 0)
    return { ok: true, text: `${before} -> ${report.bytes} bytes` }
  })
  return row
}

function filesOf(args: readonly string[]): string[] {
  const places = args.length > 0 ? args : [join(import.meta.dirname, '../../shared/zoo')]
  return places.flatMap((place) => {
    if (!existsSync(place)) throw new Error(`there is no ${place}`)
    if (!statSync(place).isDirectory()) return [place]
    return readdirSync(place, { recursive: true, encoding: 'utf8' })
      .filter((f) => f.endsWith('.onnx'))
      .sort()
      .map((f) => join(place, f))
  })
}

/** The row, from a process of its own: a model that kills the engine does not affect others. */
function isolated(file: string): Row {
  const done = spawnSync(process.execPath, ['--import', 'tsx', import.meta.filename, '--one', file], {
    encoding: 'utf8',
    timeout: 600_000,
    maxBuffer: 2 ** 26,
  })
  const last = done.stdout.trim().split('\n').at(-1) ?? ''
  if (done.status === 0 && last.startsWith('{')) return JSON.parse(last)
  const why = done.stderr.trim().split('\n').at(-1) ?? ''
  return { 'round trip': { ok: false, text: `CRASH: the process ended (${done.signal ?? done.status}) ${why}` } }
}

/** The file's name; that of its folder if the file's is generic. */
const nameOf = (file: string): string => {
  const name = basename(file, '.onnx')
  return name === 'model' ? basename(dirname(file)) : name
}

function table(rows: ReadonlyMap<string, Row>): string {
  const notes: string[] = []
  const cell = (c: Cell | undefined): string => {
    if (!c) return '-'
    if (c.ok && c.text.length <= 40) return c.text.replaceAll('|', '\\|')
    const known = notes.indexOf(c.text)
    const at = known < 0 ? notes.push(c.text) : known + 1
    return `${c.ok ? 'yes' : 'no'} [${at}]`
  }
  const lines = [...rows].map(([file, row]) => `| ${[file, ...COLUMNS.map((c) => cell(row[c]))].join(' | ')} |`)
  return [
    '# Zoo',
    '',
    'Made by `make zoo`; do not edit. What mnc does with models that others exported. Inputs are RANDOM (in the shapes and',
    'types of the graph inputs): the table says what runs and what is exact, nothing about accuracy. What the columns mean',
    'is in bench/zoo.ts.',
    '',
    `| model | ${COLUMNS.join(' | ')} |`,
    `|---|${COLUMNS.map(() => '---').join('|')}|`,
    ...lines,
    '',
    ...notes.map((n, i) => `${i + 1}. ${n}`),
    '',
  ].join('\n')
}

const args = process.argv.slice(2)
if (args[0] === '--one') console.log(JSON.stringify(await rowOf(args[1]!)))
else {
  const rows = new Map<string, Row>()
  for (const file of filesOf(args)) {
    const row = isolated(file)
    rows.set(nameOf(file), row)
    console.error(
      `${basename(file)}: ${COLUMNS.map((c) => `${c} ${row[c]?.ok ? 'ok' : 'NO'} ${row[c]?.text ?? ''}`).join('\n    ')}`,
    )
  }
  const root = join(import.meta.dirname, '..')
  mkdirSync(join(root, 'bench/results'), { recursive: true })
  writeFileSync(join(root, 'docs/zoo.md'), table(rows))
  writeFileSync(join(root, 'bench/results/zoo.json'), `${JSON.stringify(Object.fromEntries(rows), null, 1)}\n`)
}
