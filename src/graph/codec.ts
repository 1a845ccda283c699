/**
 * Reads and writes ONNX files without loss: what the IR does not model travels in `extra` (codec-extra.ts).
 *
 * A model is written inline by default. External data stays where it is when the file is written into the folder it was
 * read from, and is taken into the file elsewhere, as long as that stays under protobuf's 2 GB.
 */
import { createHash } from 'node:crypto'
import { basename, dirname, resolve } from 'node:path'
import { MncError, modelError, usageError } from '../errors.ts'
import { fileError, openAtomic, readFileBytes, writeFileAtomic } from '../files.ts'
import { modelFromProto } from './codec-decode.ts'
import { modelToProto } from './codec-encode.ts'
import type { TensorPlacement } from './codec-tensor.ts'
import type { Graph } from './graph.ts'
import type { Model } from './model.ts'
import { decodeProto, encodeProto } from './proto-schema.ts'
import type { Tensor } from './tensor.ts'

export interface WriteOptions {
  /** Puts tensors of 1 KiB and more into `<file>.data` beside the model. */
  readonly externalData?: boolean
}

/** Smaller tensors stay in the model file: shapes and scalars must be readable without the data. */
const EXTERNAL_MINIMUM = 1024
/** External offsets are multiples of the page size, so that a runtime can map the file. */
const EXTERNAL_ALIGNMENT = 4096
/** protobuf messages end at 2^31 - 1 bytes; the rest of a model is assumed to need less than 16 MiB. */
const INLINE_LIMIT = 2 ** 31 - 2 ** 24

/** A model of protobuf bytes. `folder`: where external data paths start. Model error for anything malformed. */
export function decodeModel(bytes: Uint8Array, options: { folder?: string; file?: string } = {}): Model {
  try {
    if (bytes.length === 0) throw modelError('not-onnx', 'the file is empty')
    return modelFromProto(parse(bytes), options.folder)
  } catch (error) {
    throw error instanceof MncError && options.file !== undefined ? error.inFile(options.file) : error
  }
}

function parse(bytes: Uint8Array): ReturnType<typeof decodeProto<'ModelProto'>> {
  try {
    return decodeProto('ModelProto', bytes)
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause)
    const depth = why.includes('max depth')
    throw modelError('not-onnx', depth ? 'graphs are nested too deeply' : `this is no ONNX model, or it is cut short`, {
      cause,
      next: depth ? 'at most 33 graphs may lie in one another' : 'check that the file is complete',
    })
  }
}

/** Protobuf bytes; deterministic. External tensors are inlined. */
export function encodeModel(model: Model): Uint8Array {
  return encode(model, { place: () => undefined })
}

/** Hexadecimal digits of a fingerprint: 64 bits tell the versions of one model apart. */
const FINGERPRINT_DIGITS = 16

/** The start of the SHA-256 of the file that mnc would write; external data count by where they are. */
export function fingerprint(model: Model): string {
  const bytes = encode(model, { place: (t) => (t.origin?.external ? 'keep' : undefined) })
  return createHash('sha256').update(bytes).digest('hex').slice(0, FINGERPRINT_DIGITS)
}

function encode(model: Model, placement: TensorPlacement): Uint8Array {
  let inline = 0
  for (const t of tensorsOf(model)) if (placement.place(t) === undefined) inline += t.byteLength
  if (inline > INLINE_LIMIT)
    throw modelError('too-large', `the tensors take ${inline} bytes, more than one ONNX file can hold`, {
      next: 'use --external-data',
    })
  return encodeProto('ModelProto', modelToProto(model, placement))
}

function* graphTensors(graph: Graph): Generator<{ tensor: Tensor; initializer: boolean }> {
  for (const v of graph.initializers()) if (v.constant) yield { tensor: v.constant, initializer: true }
  for (const n of graph.nodes()) {
    for (const a of n.attributes.values()) {
      if (a.kind === 'tensor') yield { tensor: a.value, initializer: false }
      else if (a.kind === 'tensors') for (const tensor of a.value) yield { tensor, initializer: false }
    }
    for (const body of n.subgraphs) yield* graphTensors(body)
  }
}

function* tensorsOf(model: Model): Generator<Tensor> {
  for (const graph of [model.graph, ...model.functions.map((f) => f.graph)])
    for (const { tensor } of graphTensors(graph)) yield tensor
}

const isText = (path: string): boolean => /\.(onnxtxt|txt)$/i.test(path)

/** `path` '-' reads standard input. Files ending in .txt / .onnxtxt hold the text form. */
export async function readModel(path: string): Promise<Model> {
  const bytes = await readFileBytes(path)
  if (path === '-') return decodeModel(bytes, { folder: process.cwd(), file: 'standard input' })
  if (!isText(path)) return decodeModel(bytes, { folder: dirname(resolve(path)), file: path })
  const { parseModel } = await import('./text-parse.ts')
  try {
    return parseModel(new TextDecoder().decode(bytes))
  } catch (error) {
    throw error instanceof MncError ? error.inFile(path) : error
  }
}

/** Writes to a temporary file beside `path`, then renames. '-' writes standard output. */
export async function writeModel(model: Model, path: string, options: WriteOptions = {}): Promise<void> {
  if (path !== '-' && isText(path)) {
    if (options.externalData) throw usageError('the text form holds its tensors: it has no external data')
    const { printModel } = await import('./text.ts')
    return writeFileAtomic(path, printModel(model, { tensors: 'full' }))
  }
  if (options.externalData) {
    if (path === '-') throw usageError('external data needs a file to lie beside', 'give an output file with -o')
    return writeExternal(model, path)
  }
  const stays = path !== '-' && model.folder !== undefined && resolve(model.folder) === dirname(resolve(path))
  await writeFileAtomic(path, encode(model, { place: (t) => (stays && t.origin?.external ? 'keep' : undefined) }))
}

/** One tensor after the other, so that no more than one lazy tensor is in memory at a time. */
async function writeExternal(model: Model, path: string): Promise<void> {
  const location = `${basename(path)}.data`
  const placed = new Map<Tensor, { offset: number; length: number }>()
  let end = 0
  for (const { tensor, initializer } of graphTensors(model.graph)) {
    const length = tensor.byteLength
    if (!initializer || tensor.type === 'string' || length < EXTERNAL_MINIMUM || placed.has(tensor)) continue
    const offset = Math.ceil(end / EXTERNAL_ALIGNMENT) * EXTERNAL_ALIGNMENT
    placed.set(tensor, { offset, length })
    end = offset + length
  }
  const place: TensorPlacement['place'] = (t) => {
    const at = placed.get(t)
    return (
      at && [
        { key: 'location', value: location },
        { key: 'offset', value: String(at.offset) },
        { key: 'length', value: String(at.length) },
      ]
    )
  }
  const bytes = encode(model, { place })
  const data = await openAtomic(`${path}.data`)
  try {
    let at = 0
    for (const [tensor, { offset, length }] of placed) {
      if (offset > at) await data.handle.writeFile(new Uint8Array(offset - at))
      await data.handle.writeFile(tensor.bytes)
      at = offset + length
    }
    const file = await openAtomic(path)
    try {
      await file.handle.writeFile(bytes)
      await data.commit()
      await file.commit()
    } finally {
      await file.abort()
    }
  } catch (error) {
    throw fileError(error, path, 'written')
  } finally {
    await data.abort()
  }
}
