/**
 * Where the tensors of a model go when it is written: into the file, into `<file>.data` next to it, or where they are
 * already. Inline unless asked otherwise or too large for one file.
 */
import { existsSync, realpathSync } from 'node:fs'
import { basename, dirname, resolve } from 'node:path'
import type { Bytes } from '../base/bytes.ts'
import { modelError } from '../base/errors.ts'
import type { Graph } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import type { TensorPlacement } from './codec-tensor.ts'

/** Smaller tensors stay in the model file: shapes and scalars must be readable without the data. */
const EXTERNAL_MINIMUM = 1024
/** External offsets are multiples of the page size, so that a runtime can map the file. */
const EXTERNAL_ALIGNMENT = 4096
/** protobuf messages end at 2^31 - 1 bytes; the rest of a model is assumed to need less than 16 MiB. */
const INLINE_LIMIT = 2 ** 31 - 2 ** 24

export interface Placement extends TensorPlacement {
  /** What the data file holds, padding included; empty where there is none. */
  readonly data: readonly Bytes[]
}

function* graphTensors(graph: Graph): Generator<{ tensor: Tensor; initializer: boolean }> {
  // a sparse tensor stays in the file, and is small there
  for (const v of graph.stored()) if (!v.stored!.origin?.sparse) yield { tensor: v.stored!, initializer: true }
  for (const n of graph.nodes()) {
    for (const a of n.attributes.values()) {
      if (a.kind === 'tensor') yield { tensor: a.value, initializer: false }
      else if (a.kind === 'tensors') for (const tensor of a.value) yield { tensor, initializer: false }
    }
    for (const body of n.subgraphs) yield* graphTensors(body)
  }
}

function inlineBytes(model: Model, place: TensorPlacement['place']): number {
  let sum = 0
  for (const graph of [model.graph, ...model.functions.map((f) => f.graph)])
    for (const { tensor } of graphTensors(graph)) if (place(tensor) === undefined) sum += tensor.byteLength
  return sum
}

function checkInline(bytes: number): void {
  if (bytes > INLINE_LIMIT)
    throw modelError('too-large', `the tensors take ${bytes} bytes, more than one ONNX file can hold`, {
      next: 'write to a file: large tensors are then stored next to it',
    })
}

/** Everything in one piece. Model error where protobuf cannot hold that. */
export function allInline(model: Model): Placement {
  const place = () => undefined
  checkInline(inlineBytes(model, place))
  return { place, data: [] }
}

/** Placement for a file at `path`. `external`: the tensors go next to the model although one file could hold them. */
export function placeTensors(model: Model, path: string, external: boolean): Placement {
  const dataPath = `${path}.data`
  const stays = model.folder !== undefined && resolve(model.folder) === dirname(resolve(path))
  // where the data file is to be replaced, what lies in it cannot stay
  const replaced = existsSync(dataPath) ? realpathSync(dataPath) : undefined
  const keeps: TensorPlacement['place'] = (t) => (stays && t.origin?.external ? 'keep' : undefined)
  if (!external && inlineBytes(model, keeps) <= INLINE_LIMIT) return { place: keeps, data: [] }
  const keep = (t: Tensor): boolean => !external && keeps(t) === 'keep' && t.origin?.external?.file.path !== replaced
  const { placed, data } = layOut(model.graph, keep)
  const location = basename(dataPath)
  const place: TensorPlacement['place'] = (t) => {
    if (keep(t)) return 'keep'
    const offset = placed.get(t)
    if (offset === undefined) return undefined
    const entries = { location, offset: String(offset), length: String(t.byteLength) }
    return Object.entries(entries).map(([key, value]) => ({ key, value }))
  }
  checkInline(inlineBytes(model, place))
  return { place, data }
}

/** Offsets of the initializers that go into the data file, and its content. */
function layOut(graph: Graph, keep: (t: Tensor) => boolean): { placed: Map<Tensor, number>; data: Bytes[] } {
  const placed = new Map<Tensor, number>()
  const data: Bytes[] = []
  let end = 0
  for (const { tensor, initializer } of graphTensors(graph)) {
    const small = tensor.type === 'string' || tensor.byteLength < EXTERNAL_MINIMUM
    if (!initializer || small || placed.has(tensor) || keep(tensor)) continue
    const offset = Math.ceil(end / EXTERNAL_ALIGNMENT) * EXTERNAL_ALIGNMENT
    if (offset > end) data.push(new Uint8Array(offset - end))
    data.push(tensor.data)
    placed.set(tensor, offset)
    end = offset + tensor.byteLength
  }
  return { placed, data }
}
