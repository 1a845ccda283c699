/** onnxruntime's profile of a session, a Chrome trace: which kernel ran when, how long, and on arrays of which dims. */

export interface Kernel {
  /** Name of the node. */
  readonly node: string
  readonly op: string
  /** Microseconds. */
  readonly us: number
  readonly inputs: readonly (readonly number[])[]
  readonly outputs: readonly (readonly number[])[]
}

interface TraceEvent {
  readonly cat?: string
  readonly name?: string
  readonly dur?: number
  readonly ts?: number
  readonly args?: {
    readonly op_name?: string
    /** One entry an input: its dims by its type. */
    readonly input_type_shape?: readonly Readonly<Record<string, readonly number[]>>[]
    readonly output_type_shape?: readonly Readonly<Record<string, readonly number[]>>[]
  }
}

const SUFFIX = '_kernel_time'

/** The kernels of the last runs, `most` of them or all that there were. */
export function lastRuns(trace: string, most: number): { readonly runs: number; readonly kernels: readonly Kernel[] } {
  const events = JSON.parse(trace) as readonly TraceEvent[]
  const starts = events.filter((e) => e.name === 'model_run').map((e) => e.ts ?? 0)
  const runs = Math.min(most, starts.length)
  const from = starts.sort((a, b) => a - b)[starts.length - runs] ?? 0
  const kernels = events
    .filter((e) => e.cat === 'Node' && e.name?.endsWith(SUFFIX) && (e.ts ?? 0) >= from)
    .map(({ name, dur = 0, args }) => ({
      ...{ node: name!.slice(0, -SUFFIX.length), op: args?.op_name ?? '?', us: dur },
      ...{ inputs: dimsOf(args?.input_type_shape), outputs: dimsOf(args?.output_type_shape) },
    }))
  return { runs, kernels }
}

const dimsOf = (shapes: readonly Readonly<Record<string, readonly number[]>>[] = []): readonly (readonly number[])[] =>
  shapes.map((s) => Object.values(s)[0] ?? [])
