/**
 * Whether an export is worth its file: a gate (exit 3, nothing is written) where no weight takes fewer bits than before,
 * or the file is larger than the one it was made from. Small graphs hit the second: each export adds some hundred
 * bytes of nodes and names. A float network, which nothing was done to that an export could store, is a usage error (exit 2).
 * `--allow-larger` turns all of it into a warning.
 */
import { MncError } from '../base/errors.ts'
import { encodeModel } from '../codec/codec.ts'
import type { Model } from '../graph/model.ts'
import { holdsFloats } from './export-options.ts'
import type { ExportReport } from './export-report.ts'

/** What is written larger than it was. */
export interface ExportSource {
  /** Of the file that was exported, external data included. */
  readonly inputBytes: number
  /** `mnc.export` of the file that was exported: the format, where it is an export itself. */
  readonly earlier: string | undefined
  /** As messages name it. */
  readonly file: string
}

/** Bytes of a model that has no file of its own. */
export const modelBytes = (model: Model): number =>
  [...model.graph.initializers()].reduce(
    (n, v) => n + (v.constant?.origin?.external?.length ?? 0),
    encodeModel(model).length,
  )

/** Throws the gate error, or calls `warn` if a larger file is allowed. */
export function gateSize(
  report: ExportReport,
  source: ExportSource,
  allowLarger: boolean,
  warn: (message: string) => void,
): void {
  const fault = faultOf(report, source)
  if (!fault) return
  const { file } = source
  if (!allowLarger) {
    const next = `${fault.next}, or write the file anyway with --allow-larger`
    throw new MncError(fault.message, { code: fault.code, blame: fault.blame ?? 'gate', file, next })
  }
  warn(`WARNING: ${file}: ${fault.message}`)
}

interface Fault {
  readonly code: string
  readonly message: string
  readonly next: string
  /** `gate` by default. */
  readonly blame?: 'user'
}

export const NOTHING = 'it compresses nothing'

/** Stored as it was, or with fewer digits, as floats may be beside weights that are compressed. */
const isFloat = ({ storage }: ExportReport['tensors'][number]): boolean =>
  ['raw', 'float16', 'fixed16', 'fixed24'].includes(storage)

/** Why the file holds no weight in fewer bits than before; null where it does, or is not meant to. */
export function compressesNothing(report: ExportReport): string | null {
  const { format, tensors } = report
  return holdsFloats(format) || tensors.some((t) => !isFloat(t)) ? null : `${NOTHING}: ${whyNothing(report)}`
}

function faultOf(report: ExportReport, { inputBytes, earlier }: ExportSource): Fault | null {
  const { bytes, format, tensors } = report
  const count = (n: number): string => n.toLocaleString('en')
  const again = earlier === undefined ? null : `it is already an export (${earlier})`
  const fromGraph = 'export the graph that it was made from'
  if (compressesNothing(report) !== null)
    return {
      code: 'nothing-compressed',
      message: again ?? `exporting it as ${format} compresses nothing: ${whyNothing(report)}`,
      next: again ? fromGraph : 'quantise it first (mnc ptq, or mnc pass quantize)',
      ...(!again && report.quantised === 0 && report.weights > 0 && { blame: 'user' }),
    }
  if (bytes <= inputBytes) return null
  const larger = `as ${format} it takes ${count(bytes)} bytes, more than its ${count(inputBytes)}`
  if (again) return { code: 'larger', message: `${again}, and ${larger}`, next: fromGraph }
  const rest = count(bytes - tensors.reduce((n, t) => n + t.bytes, 0))
  return {
    code: 'larger',
    message: `${larger}: all but its weights (nodes, names, history, other tensors) takes ${rest}`,
    next: 'compress more of it (mnc info shows how each weight is stored)',
  }
}

function whyNothing({ weights, tensors, left }: ExportReport): string {
  if (weights === 0 && left.of === 0) return 'it has no weights'
  const [first] = left.largest
  if (first) return `the largest weight, ${first.where} (${first.weights!.toLocaleString('en')}): ${first.reason}`
  return tensors.length === 0 ? 'its weights are already integers' : 'no weight is quantised or pruned'
}
