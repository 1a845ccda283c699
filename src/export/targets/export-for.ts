/**
 * The export that options ask for: a format, or a target, whose forms are written and tried in turn. Forms that a reader does
 * not take are left out, so are those that the network has no weights for; of the rest the target says which one it is.
 * `fastest` is measured here (one thread, one sample): a later form is taken where it is faster than the first beyond the noise.
 */
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseReader, readersOf, refusalOf, type Wanted } from '../../analysis/readers.ts'
import { MncError, usageError } from '../../base/errors.ts'
import { temporaryFolder } from '../../base/files.ts'
import { flagOf } from '../../base/options.ts'
import { writeModel } from '../../codec/codec.ts'
import type { Model } from '../../graph/model.ts'
import { measureLatency } from '../../latency/measure.ts'
import type { Estimate } from '../../latency/statistics.ts'
import { ortExecutor } from '../../runtime/ort/ort.ts'
import { type ExportContext, type Exported, exportModel } from '../export-model.ts'
import { type ExportOptions, holdsFloats } from '../export-options.ts'
import { compressesNothing, NOTHING } from '../gate-size.ts'
import { targetOf } from './index.ts'
import type { Form, TargetDef } from './target.ts'

export interface Tried {
  /** Its export options as flags: `--format int8 --row-pairs`. */
  readonly form: string
  readonly bytes: number | null
  /** Milliseconds of a run, where the fastest was looked for. */
  readonly latency: Estimate | null
  /** Why it was left out; null for those among which was chosen. */
  readonly refused: string | null
}

export interface Picked {
  readonly target: string
  readonly form: string
  /** A sentence. */
  readonly because: string
  readonly tried: readonly Tried[]
}

export interface ExportedFor extends Exported {
  /** Of the file: what `exportModel` makes it with. */
  readonly options: ExportOptions
  /** null where a format was asked for. */
  readonly picked: Picked | null
}

export interface ForOptions extends ExportOptions {
  readonly target?: string | undefined
  readonly reader?: string | undefined
}

export interface ForContext extends ExportContext {
  readonly seed?: number
}

/** Usage errors: a target beside options that it decides on; a reader that no form suits. */
export async function exportFor(source: Model, given: ForOptions, context: ForContext = {}): Promise<ExportedFor> {
  const { target, reader, ...options } = given
  const wanted = reader === undefined ? null : parseReader(reader)
  if (target !== undefined) return exportToTarget(source, targetOf(target), { ...context, options, wanted })
  const exported = await exportModel(source, options, context)
  const refusal = wanted && refusalOf(readersOf(exported.model), wanted)
  if (refusal)
    throw usageError(
      `the file as ${exported.report.format} is not read: ${refusal}`,
      'mnc export --target picks a form',
    )
  return { ...exported, options, picked: null }
}

interface TargetContext extends ForContext {
  readonly options?: ExportOptions
  readonly wanted?: Wanted | null
}

interface Made extends Exported {
  readonly form: Form
  readonly options: ExportOptions
}

export async function exportToTarget(source: Model, target: TargetDef, context: TargetContext): Promise<ExportedFor> {
  const { options: own = {}, wanted = null, seed = 0, onProgress, ...rest } = context
  const { format, packedWeights, rowPairs, symmetric, floatActivations, ...common } = own
  if (format !== undefined || packedWeights || rowPairs || symmetric || floatActivations)
    throw usageError(
      `--target ${target.name} decides on the format and its options`,
      'give a target, or a format with options',
    )
  const readers = wanted ? [wanted] : target.readers.map(parseReader)
  const made: Made[] = []
  const refused: Tried[] = []
  for (const [i, form] of target.forms.entries()) {
    const options = { ...common, ...form.options, shortNames: common.shortNames || form.options.shortNames === true }
    const exported = await exportModel(source, options, rest)
    const readings = readersOf(exported.model)
    const { bytes } = exported.report
    const reason =
      nothingFor(target, exported) ?? readers.map((r) => refusalOf(readings, r)).find((r) => r !== null) ?? null
    if (reason === null) made.push({ ...exported, form, options })
    else refused.push({ form: formText(form), bytes, latency: null, refused: reason })
    onProgress?.(i + 1, target.forms.length)
    if (target.pick === 'first' && made.length > 0) break
  }
  const nothing = target.quantised && made.every((m) => holdsFloats(m.report.format))
  if (made.length === 0 || (nothing && refused.length > 0 && refused.every(isNothing))) {
    const [first] = refused
    throw usageError(`no form of target ${target.name} will do: ${first!.form}: ${first!.refused}`, nextFor(refused))
  }
  const { chosen, latencies, because } = await pick(target, made, seed, rest.signal)
  const tried = made.map((m) => ({
    ...{ form: formText(m.form), bytes: m.report.bytes, latency: latencies?.get(m) ?? null, refused: null },
  }))
  const { model, report, names, options, form } = chosen
  const picked = { target: target.name, form: formText(form), because, tried: [...tried, ...refused] }
  return { model, report, names, options, picked }
}

/** Where a form of integers is the float network again, it is not what the target is for. */
const nothingFor = (target: TargetDef, { report }: Exported): string | null =>
  target.quantised ? compressesNothing(report) : null

const isNothing = ({ refused }: Tried): boolean => refused?.startsWith(NOTHING) === true

const nextFor = (refused: readonly Tried[]): string =>
  refused.every(isNothing)
    ? 'quantise the network first: mnc ptq, or mnc pass quantize'
    : 'name a reader that takes it with --reader, or a format with --format'

export const formText = ({ options }: Form): string =>
  Object.entries(options)
    .filter(([name, value]) => name === 'format' || value === true)
    .map(([name, value]) => (value === true ? flagOf(name) : `${flagOf(name)} ${value}`))
    .join(' ')

interface Choice {
  readonly chosen: Made
  readonly because: string
  readonly latencies: ReadonlyMap<Made, Estimate> | null
}

async function pick({ pick }: TargetDef, made: readonly Made[], seed: number, signal?: AbortSignal): Promise<Choice> {
  if (pick === 'fastest') return fastest(made, seed, signal)
  const chosen = pick === 'first' ? made[0]! : made.reduce((a, b) => (b.report.bytes < a.report.bytes ? b : a))
  return { chosen, because: chosen.form.because, latencies: null }
}

/** For people: the form, and why. */
export const describePicked = ({ target, form, because }: Picked): string => `target ${target}: ${form}, as ${because}`

/** Seconds for each form. */
const SECONDS = 1

async function fastest(made: readonly Made[], seed: number, signal?: AbortSignal): Promise<Choice> {
  const folder = await temporaryFolder(join(tmpdir(), 'mnc-fastest-'))
  try {
    const candidates = []
    for (const [i, { model }] of made.entries()) {
      const file = join(folder.path, `${i}.onnx`)
      await writeModel(model, file)
      candidates.push({ file, model })
    }
    const options = { threads: [1], batch: [1], seconds: SECONDS }
    const [setting] = await measureLatency(candidates, options, { seed, executor: ortExecutor(), signal })
    const latencies = new Map(made.map((m, i) => [m, setting!.models[i]!.latency]))
    const chosen = made[fastestOf(setting!.models.map((m) => m.speedup))]!
    const ms = (m: Made): string => `${Number(latencies.get(m)!.median.toPrecision(3))} ms`
    const others = made.filter((m) => m !== chosen).map((m) => `${formText(m.form)} ${ms(m)}`)
    const against = others.length > 0 ? `, ${others.join(', ')}` : ''
    const because = `${chosen.form.because}; a run of one sample takes ${ms(chosen)} on one thread here${against}`
    return { chosen, because, latencies }
  } catch (error) {
    // a network that is not run on made inputs is not measured: the likeliest form
    if (!(error instanceof MncError) || error.blame === 'interrupt') throw error
    return { chosen: made[0]!, because: `${made[0]!.form.because} (not measured: ${error.message})`, latencies: null }
  } finally {
    await folder.remove()
  }
}

/** `speedups`: against the first, which has none. Of those that are as fast as the fastest, as far as the noise tells, the first. */
export function fastestOf(speedups: readonly (Estimate | null)[]): number {
  const least = Math.max(1, ...speedups.map((s) => (s && s.low > 1 ? s.low : 1)))
  return least === 1 ? 0 : speedups.findIndex((s) => s !== null && s.low > 1 && s.high >= least)
}
