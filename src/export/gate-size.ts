/**
 * Whether an export is worth its file: a gate (exit 3, nothing is written) where no weight takes fewer bits than before,
 * or the file is larger than the one it was made from. Small graphs hit the second: each export adds some hundred
 * bytes of nodes and names. `--allow-larger` turns the gate into a warning.
 */
import { MncError } from '../base/errors.ts'
import { encodeModel } from '../codec/codec.ts'
import type { Model } from '../graph/model.ts'
import type { ExportReport } from './export-report.ts'

export interface Exported {
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
  source: Exported,
  allowLarger: boolean,
  warn: (message: string) => void,
): void {
  const fault = faultOf(report, source)
  if (!fault) return
  const { file } = source
  if (!allowLarger) {
    const next = `${fault.next}, or write the file anyway with --allow-larger`
    throw new MncError(fault.message, { code: fault.code, blame: 'gate', file, next })
  }
  warn(`WARNING: ${file}: ${fault.message}`)
}

interface Fault {
  readonly code: string
  readonly message: string
  readonly next: string
}

function faultOf(report: ExportReport, { inputBytes, earlier }: Exported): Fault | null {
  const { bytes, format, tensors } = report
  const count = (n: number): string => n.toLocaleString('en')
  const again = earlier === undefined ? null : `it is already an export (${earlier})`
  const fromGraph = 'export the graph that it was made from'
  if (tensors.every((t) => t.storage === 'raw'))
    return {
      code: 'nothing-compressed',
      message: again ?? `exporting it as ${format} compresses nothing: ${whyNothing(report)}`,
      next: again ? fromGraph : 'prune or quantise it first (mnc pass quantize)',
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
