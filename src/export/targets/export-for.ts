/**
 * The export that options ask for: a format, or a target, whose forms are written and tried in turn. Forms that a reader does
 * not take are left out, so are those that the network has no weights for; of the rest the target says which one it is.
 * `fastest` is measured here (fastest.ts).
 */
import { parseReader, readersOf, refusalOf, type Wanted } from '../../analysis/readers.ts'
import { MncError, usageError } from '../../base/errors.ts'
import { flagOf } from '../../base/options.ts'
import type { Model } from '../../graph/model.ts'
import type { Estimate } from '../../latency/statistics.ts'
import { cutsOffSums } from '../../runtime/ort/cut-off-sums.ts'
import { type ExportContext, type Exported, exportModel } from '../export-model.ts'
import { type ExportOptions, holdsFloats, ownOptions } from '../export-options.ts'
import { compressesNothing, NOTHING } from '../gate-size.ts'
import { type FastestRun, fastestOf, type Settings, type Timed } from './fastest.ts'
import { targetOf } from './index.ts'
import type { Form, TargetDef } from './target.ts'

/** A form of a target that was made, and what was measured of it. */
export interface Tried {
  /** Its export options as flags: `--format int8 --row-pairs`. */
  readonly form: string
  readonly bytes: number | null
  /** At each setting, where the fastest was looked for. */
  readonly timed: readonly Timed[] | null
  /** Why it was left out; null for those among which was chosen. */
  readonly refused: string | null
}

/** Why a form was taken. */
export interface Picked {
  readonly target: string
  readonly form: string
  /** A sentence. */
  readonly because: string
  readonly tried: readonly Tried[]
}

/** An export for a target: the form that was taken, and those that were tried. */
export interface ExportedFor extends Exported {
  /** Of the file: what `exportModel` makes it with. */
  readonly options: ExportOptions
  /** null where a format was asked for. */
  readonly picked: Picked | null
}

export interface ForOptions extends ExportOptions {
  readonly target?: string | undefined
  readonly reader?: string | undefined
  /** Where `fastest` is measured: one thread and one sample by default. */
  readonly threads?: readonly number[] | undefined
  readonly batch?: readonly number[] | undefined
}

export interface ForContext extends ExportContext {
  readonly seed?: number
}

/** Usage errors: a target beside options that it decides on; a reader that no form suits. */
export async function exportFor(source: Model, given: ForOptions, context: ForContext = {}): Promise<ExportedFor> {
  const { target, reader, threads, batch, ...options } = given
  const settings = settingsFor(target === undefined ? null : targetOf(target), { threads, batch })
  const wanted = reader === undefined ? null : parseReader(reader)
  if (target !== undefined) return exportToTarget(source, targetOf(target), { ...context, options, wanted, settings })
  const exported = await exportModel(source, options, context)
  const refusal = wanted && refusalOf(readersOf(exported.model), wanted)
  if (refusal)
    throw usageError(
      `the file as ${exported.report.format} is not read: ${refusal}`,
      'mnc export --target picks a form',
    )
  return { ...exported, options, picked: null }
}

/**
 * Where a target is measured: one thread and one sample by default. A usage error where it is not picked by measuring; `prefix`: of the
 * names of the two options.
 */
export function settingsFor(
  target: TargetDef | null,
  given: { readonly threads?: readonly number[] | undefined; readonly batch?: readonly number[] | undefined },
  prefix = '',
): Settings {
  const { threads, batch } = given
  if ((threads || batch) && target?.pick !== 'fastest')
    throw usageError(
      `--${prefix}${threads ? 'threads' : 'batch'}: ${target ? `the target ${target.name}` : 'a format'} is not picked by measuring`,
      'leave it out, or give --target cpu',
    )
  return { threads: threads ?? [1], batch: batch ?? [1] }
}

interface TargetContext extends ForContext {
  readonly options?: ExportOptions
  readonly wanted?: Wanted | null
  readonly settings?: Settings
}

interface Made extends Exported {
  readonly form: Form
  readonly options: ExportOptions
}

export async function exportToTarget(source: Model, target: TargetDef, context: TargetContext): Promise<ExportedFor> {
  const {
    options: own = {},
    wanted = null,
    settings = { threads: [1], batch: [1] },
    seed = 0,
    onProgress,
    ...rest
  } = context
  const { format, ...common } = own
  if (format !== undefined || ownOptions(own).length > 0)
    throw usageError(
      `--target ${target.name} decides on the format and its options`,
      'give a target, or a format with options',
    )
  const readers = wanted ? [wanted] : target.readers.map(parseReader)
  const cutsOff = target.pick === 'fastest' && (await cutsOffSums())
  const made: Made[] = []
  const refused: Tried[] = []
  for (const [i, form] of target.forms.entries()) {
    const options = { ...common, ...form.options, shortNames: common.shortNames || form.options.shortNames === true }
    const exported = await exportModel(source, options, rest)
    const readings = readersOf(exported.model)
    const { bytes } = exported.report
    const reason =
      nothingFor(target, exported) ??
      (cutsOff ? wrongHere(exported) : null) ??
      readers.map((r) => refusalOf(readings, r)).find((r) => r !== null) ??
      null
    if (reason === null) made.push({ ...exported, form, options })
    else refused.push({ form: formText(form), bytes, timed: null, refused: reason })
    onProgress?.(i + 1, target.forms.length)
    if (target.pick === 'first' && made.length > 0) break
  }
  const nothing = target.quantised && made.every((m) => holdsFloats(m.report.format))
  if (made.length === 0 || (nothing && refused.length > 0 && refused.every(isNothing))) {
    const [first] = refused
    throw usageError(`no form of target ${target.name} will do: ${first!.form}: ${first!.refused}`, nextFor(refused))
  }
  const { chosen, timed, because } = await pick(target, made, { settings, seed, signal: rest.signal })
  const tried = made.map((m) => ({
    ...{ form: formText(m.form), bytes: m.report.bytes, timed: timed?.get(m) ?? null, refused: null },
  }))
  const { model, report, names, options, form } = chosen
  const picked = { target: target.name, form: formText(form), because, tried: [...tried, ...refused] }
  return { model, report, names, options, picked }
}

/** Where a form of integers is the float network again, it is not what the target is for. */
const nothingFor = (target: TargetDef, { report }: Exported): string | null =>
  target.quantised ? compressesNothing(report) : null

/** Of a form that is for this processor, which does: whether it computes what it should here. */
const wrongHere = ({ report }: Exported): string | null =>
  report.saturating.length > 0
    ? `this processor cuts off sums of 8-bit weights, in ${count(report.saturating.length, 'layer')}`
    : null

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
  readonly timed: ReadonlyMap<Made, readonly Timed[]> | null
}

async function pick({ pick }: TargetDef, made: readonly Made[], run: FastestRun): Promise<Choice> {
  if (pick === 'fastest') return fastest(made, run)
  const chosen = pick === 'first' ? made[0]! : made.reduce((a, b) => (b.report.bytes < a.report.bytes ? b : a))
  return { chosen, because: chosen.form.because, timed: null }
}

/** For people: the form, and why. */
export const describePicked = ({ target, form, because }: Picked): string => `target ${target}: ${form}, as ${because}`

async function fastest(made: readonly Made[], run: FastestRun): Promise<Choice> {
  // where there is no float form, none may be slower than the likeliest
  const float = Math.max(
    0,
    made.findIndex((m) => holdsFloats(m.report.format)),
  )
  try {
    const { index, timed } = await fastestOf(
      made.map((m) => m.model),
      float,
      run,
    )
    const chosen = made[index]!
    const others = [...made.keys()].filter((k) => k !== index)
    const said = timed[index]!.map(({ threads, batch, latency }, s) => {
      const against = others.map((k) => `, ${formText(made[k]!.form)} ${ms(timed[k]![s]!.latency)}`).join('')
      return `a run of ${count(batch, 'sample')} takes ${ms(latency)} on ${threads === 0 ? 'all cores' : count(threads, 'thread')} here${against}`
    })
    const because = [chosen.form.because, ...said].join('; ')
    return { chosen, because, timed: new Map(made.map((m, k) => [m, timed[k]!])) }
  } catch (error) {
    // a network that is not run on made inputs is not measured: the likeliest form
    if (!(error instanceof MncError) || error.blame === 'interrupt') throw error
    return { chosen: made[0]!, because: `${made[0]!.form.because} (not measured: ${error.message})`, timed: null }
  }
}

const ms = ({ median }: Estimate): string => `${Number(median.toPrecision(3))} ms`
const count = (n: number, what: string): string => (n === 1 ? `one ${what}` : `${n} ${what}s`)
