/**
 * What must hold of any model of the supported operators: passes in random order with random options, then every export
 * and now and then two training steps. Each step gives a sound model or refuses with a clear error; each file loads at all
 * four optimisation levels of onnxruntime and computes what its source computes; no pass undoes zeros or widths.
 */
import { modelInfo } from '../../src/analysis/model-info.ts'
import { MncError } from '../../src/base/errors.ts'
import { Rng } from '../../src/base/rng.ts'
import { decodeModel, encodeModel } from '../../src/codec/codec.ts'
import { calibrationData } from '../../src/data/calibration.ts'
import { exportModel } from '../../src/export/export-model.ts'
import type { ExportReport } from '../../src/export/export-report.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import type { Model } from '../../src/graph/model.ts'
import type { Tensor } from '../../src/graph/tensor.ts'
import { findPass, runPass } from '../../src/passes/run-pass.ts'
import type { LoadOptions } from '../../src/runtime/executor.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { train } from '../../src/train/loop/trainer.ts'
import { randomFeeds } from '../passes/golden.ts'
import { isCutOff } from './cut-off.ts'
import { type RandomGraphOptions, randomGraph } from './random-graph.ts'

export interface GraphOutcome {
  /** The passes that ran or refused, as one would type them. */
  readonly steps: readonly string[]
  /** What was refused, and why. */
  readonly refused: readonly string[]
  /** What must not be; empty where all is well. */
  readonly faults: readonly string[]
  /** What the passes left. */
  readonly model: Model
}

type Options = Readonly<Record<string, unknown>>
type Draw = (rng: Rng) => readonly [pass: string, options: Options]

const pick = <T>(rng: Rng, items: readonly T[]): T => items[rng.integer(items.length)]!
const LAYERS = ['Conv', 'ConvTranspose', 'Gemm', 'MatMul']

const prune: Draw = (r) => {
  const pattern = pick(r, ['unstructured', 'unstructured', 'channel', '2:4'])
  return [
    'prune',
    {
      ...(pattern !== '2:4' && { sparsity: pick(r, [0.25, 0.5, 0.75, 0.9]) }),
      ...{ pattern, scope: pick(r, ['global', 'layer']) },
      ...(r.chance(0.75) && { ops: LAYERS }),
    },
  ]
}

const quantize: Draw = (r) => [
  'quantize',
  {
    weightBits: pick(r, [2, 3, 4, 4, 4, 5, 8, 8]),
    activationBits: pick(r, [0, 3, 4, 4, 4, 6, 8, 8]),
    firstLayer: pick(r, ['skip-input', 'quantize', 'skip']),
    granularity: pick(r, ['channel', 'channel', 'tensor']),
    signedInputs: pick(r, ['zero-point', 'symmetric']),
    ...(r.chance(0.75) && { ops: LAYERS }),
  },
]

const draws: readonly Draw[] = [
  ...[prune, prune, prune, prune, quantize, quantize, quantize, quantize],
  () => ['quantize-outputs', {}],
  () => ['quantize-outputs', {}],
  () => ['fold-bn', {}],
  () => ['fold-bn', {}],
  () => ['fold-constants', {}],
  (r) => ['freeze', { ops: [pick(r, LAYERS)] }],
  () => ['remove-channels', {}],
  () => ['remove-channels', {}],
  () => ['widen-floats', {}],
  () => ['eliminate-dead', {}],
  () => ['upgrade-opset', {}],
]

const levels = ['disabled', 'basic', 'extended', 'all'] as const
type Outputs = Readonly<Record<string, Tensor>>

async function run(model: Model, options: LoadOptions, feeds = 1): Promise<Outputs> {
  const session = await ortExecutor().load(model, { threads: 1, quiet: true, ...options })
  try {
    return await session.run(randomFeeds(model, feeds, SAMPLES))
  } finally {
    await session.dispose()
  }
}

const SAMPLES = 6
/** Seeds of other inputs, for files that differ on the first. */
const MORE_FEEDS = [2, 3, 4, 5, 6]

/**
 * Error of the sample in the middle, by output relative to its largest value: rounding moves single values of a quantised
 * network by whole steps, a wrong file is wrong in most samples.
 */
function medianError(want: Outputs, got: Outputs): number {
  let worst = 0
  for (const [i, [name, a]] of Object.entries(want).entries()) {
    const b = got[name] ?? Object.values(got)[i]
    if (!b || b.dims.join() !== a.dims.join()) return Number.POSITIVE_INFINITY
    const [x, y] = [a.toFloat32(), b.toFloat32()]
    const largest = x.reduce((m, v) => Math.max(m, Math.abs(v)), 1e-6)
    const samples = a.dims[0] ?? 1
    const row = x.length / samples
    const errors = Array.from({ length: samples }, (_, s) => {
      let error = 0
      for (let k = s * row; k < (s + 1) * row; k++) {
        const e = Math.abs(x[k]! - y[k]!)
        if (!(e <= error)) error = Number.isNaN(e) ? Number.POSITIVE_INFINITY : e
      }
      return error / largest
    }).sort((p, q) => p - q)
    worst = Math.max(worst, errors[Math.floor(errors.length / 2)] ?? 0)
  }
  return worst
}

/** Share of all values that differ by more than `tolerance` of their output's largest. */
function changedShare(want: Outputs, got: Outputs, tolerance: number): number {
  let [changed, all] = [0, 0]
  for (const [i, [name, a]] of Object.entries(want).entries()) {
    const [x, y] = [a.toFloat32(), (got[name] ?? Object.values(got)[i]!).toFloat32()]
    const largest = x.reduce((m, v) => Math.max(m, Math.abs(v)), 1e-6)
    changed += x.filter((v, k) => !(Math.abs(v - y[k]!) <= tolerance * largest)).length
    all += x.length
  }
  return changed / Math.max(1, all)
}

/** Zeros and bits of each layer, by name. */
type Layers = ReadonlyMap<string, { readonly zeros: number; readonly bits: number }>

async function layersOf(model: Model): Promise<Layers> {
  const { layers } = await modelInfo(model, { bytes: 0 })
  return new Map(layers.map((l) => [l.name, { zeros: Math.round(l.sparsity * l.weights), bits: l.weightBits }]))
}

/** One line of an error that is the user's or the model's; rethrows nothing, gives null where it is a fault. */
const refusal = (error: unknown): string | null =>
  error instanceof MncError && error.blame !== 'pass' ? error.describe() : null

const shown = (error: unknown): string =>
  error instanceof MncError ? error.describe() : error instanceof Error ? (error.stack ?? error.message) : String(error)

/** Passes that say they change no number. */
const exact = new Set(['fold-bn', 'fold-constants', 'freeze', 'remove-channels', 'eliminate-dead', 'upgrade-opset'])
/** Float rounding through a few layers. */
const FLOAT = 1e-4
/** A quantised network whose layers round other values: a few steps in the sample in the middle. */
const STEPS = 0.03

class GraphCase {
  readonly faults: string[] = []
  readonly steps: string[] = []
  readonly refused: string[] = []
  #model: Model
  #seed: number
  /** Of the present model. */
  #layers: Layers = new Map()
  #outputs: Outputs = {}

  constructor(seed: number, options: RandomGraphOptions) {
    this.#seed = seed
    this.#model = randomGraph(seed, options)
  }

  get model(): Model {
    return this.#model
  }

  async tryAll(): Promise<void> {
    const rng = new Rng(this.#seed, 77)
    const original = this.#model
    this.#layers = await layersOf(original)
    this.#outputs = await run(original, { optimization: 'disabled' })
    for (let n = 1 + rng.integer(5); n > 0; n--) await this.#pass(...pick(rng, draws)(rng))
    if (this.steps.length > 0) await this.#compareLevels('passes', this.#model)
    if (rng.chance(0.2)) await this.#train(original)
    for (const format of ['packed', 'int4', 'int8'] as const) await this.#export(format)
  }

  async #guarded(what: string, work: () => Promise<void>): Promise<boolean> {
    try {
      await work()
      return true
    } catch (error) {
      const reason = refusal(error)
      if (reason === null) this.faults.push(`${what}: ${shown(error)}`)
      else this.refused.push(`${what}: ${reason}`)
      return false
    }
  }

  async #pass(name: string, options: Options): Promise<void> {
    const flags = Object.entries(options).map(([k, v]) => `${k}=${v}`)
    const what = [name, ...flags].join(' ')
    const model = cloneModel(this.#model)
    const calibration = await calibrationData(model, 'random', { limit: 12, batch: 6 })
    const done = await this.#guarded(
      what,
      async () => void (await runPass(model, findPass(name), options, { calibration })),
    )
    if (!done) return
    this.steps.push(what)
    // as the next command reads it
    this.#model = decodeModel(encodeModel(model))
    try {
      const [want, before] = [this.#outputs, this.#layers]
      this.#outputs = await run(this.#model, { optimization: 'disabled' })
      this.#layers = await layersOf(this.#model)
      const error = medianError(want, this.#outputs)
      if (exact.has(name) && error > FLOAT) this.faults.push(`${what}: outputs change by ${error.toExponential(1)}`)
      for (const [layer, now] of this.#layers) {
        const then = before.get(layer)
        if (!then || name === 'remove-channels') continue
        if (now.zeros < then.zeros) this.faults.push(`${what}: ${layer} had ${then.zeros} zeros, has ${now.zeros}`)
        if (now.bits > then.bits) this.faults.push(`${what}: ${layer} had ${then.bits} bits, has ${now.bits}`)
      }
    } catch (error) {
      this.faults.push(`${what}, then running it: ${shown(error)}`)
    }
  }

  /** Loads and runs at all levels; outputs are those without optimisation, as far as rounding lets them. */
  async #compareLevels(what: string, model: Model): Promise<void> {
    let want: Outputs | null = null
    // where integer kernels are wrong by nature all else is compared
    const config = { 'session.disable_quant_qdq': '1' }
    const given = (await isCutOff(model)) ? { config } : {}
    for (const optimization of levels) {
      try {
        const got = await run(model, { optimization, ...given })
        want ??= got
        const error = medianError(want, got)
        if (error <= STEPS) continue
        const unfused = medianError(want, await run(model, { optimization, config }))
        if (unfused <= STEPS)
          this.faults.push(`${what} at level ${optimization}: outputs differ by ${error.toFixed(3)}`)
      } catch (error) {
        this.faults.push(`${what} at level ${optimization}: ${shown(error)}`)
      }
    }
  }

  async #train(teacher: Model): Promise<void> {
    const model = cloneModel(this.#model)
    const trained = await this.#guarded('train', async () => {
      const options = { maxSteps: 2, batch: 4, lr: 1e-4, loss: 'mse' as const }
      await train(model, { data: 'random', teacher: { model: teacher }, options, seed: this.#seed })
    })
    if (!trained) return
    this.steps.push('train')
    this.#model = decodeModel(encodeModel(model))
    this.#outputs = await run(this.#model, { optimization: 'disabled' })
  }

  /**
   * Whether a file with layers that may give another level here and there, a sixteenth of their range at 4 bits, differs on
   * most inputs in more than such places.
   */
  async #differsMostly(made: Model): Promise<boolean> {
    let often = 0
    for (const feeds of MORE_FEEDS) {
      const want = await run(this.#model, { optimization: 'disabled' }, feeds)
      const got = await run(made, { optimization: 'disabled' }, feeds)
      if (medianError(want, got) > STEPS && changedShare(want, got, STEPS) > 0.1) often++
    }
    return often > MORE_FEEDS.length / 2
  }

  async #export(format: 'packed' | 'int4' | 'int8'): Promise<void> {
    let made: Model | null = null
    let inexact: ExportReport['inexact'] = []
    const what = `export ${format}`
    await this.#guarded(what, async () => {
      const { model, report } = await exportModel(this.#model, { format })
      made = decodeModel(encodeModel(model))
      inexact = report.inexact
      const again = encodeModel((await exportModel(this.#model, { format })).model)
      if (Buffer.compare(again, encodeModel(made)) !== 0) this.faults.push(`${what}: other bytes when run again`)
    })
    if (!made) return
    await this.#guarded(`${what}, then running it`, async () => {
      const error = medianError(this.#outputs, await run(made!, { optimization: 'disabled' }))
      const fault = error > FLOAT && (inexact.length === 0 || (error > STEPS && (await this.#differsMostly(made!))))
      if (fault) this.faults.push(`${what}: outputs differ by ${error.toExponential(1)}`)
    })
    await this.#compareLevels(what, made)
  }
}

/** Everything about the model of one seed, of which `options` may leave parts out. */
export async function tryGraph(seed: number, options: RandomGraphOptions = {}): Promise<GraphOutcome> {
  const one = new GraphCase(seed, options)
  try {
    await one.tryAll()
  } catch (error) {
    one.faults.push(shown(error))
  }
  const { steps, refused, faults, model } = one
  return { steps, refused, faults, model }
}
