/**
 * Reads and writes ONNX files without loss: what the IR does not model travels in `extra` (codec-extra.ts).
 *
 * The large tensors of a large file stay in it until they are asked for, and go from there straight into the file that
 * is written. Where tensors are put: see placement.ts.
 */
import { createHash } from 'node:crypto'
import { statSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { type Bytes, pieces, slice } from '../base/bytes.ts'
import { DataFile } from '../base/data-file.ts'
import { MncError, modelError, usageError } from '../base/errors.ts'
import {
  commitAll,
  fileError,
  openAtomic,
  type PendingFile,
  readFileBytes,
  reading,
  writeFileAtomic,
} from '../base/files.ts'
import type { Model } from '../graph/model.ts'
import { modelFromProto } from './codec-decode.ts'
import { modelToProto } from './codec-encode.ts'
import type { TensorPlacement } from './codec-tensor.ts'
import { foreignFile } from './foreign-files.ts'
import { allInline, placeTensors } from './placement.ts'
import { decodeProto, encodeParts } from './proto.ts'
import { joined } from './wire-output.ts'

/** How a model becomes a file. */
export interface WriteOptions {
  /**
   * Puts tensors of 1 KiB and more into `<file>.data` next to the model. By default that happens only where one file
   * cannot hold them, and external data stays where it is when the file is written into the folder it was read from.
   */
  readonly externalData?: boolean
}

/** Bytes written before other work gets a turn: about a tenth of a second's worth. */
const BREATH = 2 ** 27

/** Files from this size on are not loaded, but read where needed. */
const LAZY_MINIMUM = 2 ** 23

/** A model of protobuf bytes. `folder`: where external data paths start. Model error for anything malformed. */
export function decodeModel(source: Uint8Array | DataFile, options: { folder?: string; file?: string } = {}): Model {
  try {
    if ((source instanceof DataFile ? source.size : source.length) === 0)
      throw modelError('not-onnx', 'the file is empty')
    return modelFromProto(decodeProto('ModelProto', source), options.folder)
  } catch (error) {
    const told = explained(error, source)
    throw told instanceof MncError && options.file !== undefined ? told.inFile(options.file) : told
  }
}

/** What is no ONNX model may be another framework's. */
function explained(error: unknown, source: Uint8Array | DataFile): unknown {
  if (!(error instanceof MncError) || error.code !== 'not-onnx') return error
  const foreign = foreignFile(headOf(source))
  if (!foreign) return error
  return modelError('not-onnx', `this is not an ONNX model but ${foreign.what}`, { next: foreign.next, cause: error })
}

/** Enough to tell other formats by. */
const HEAD = 8

function headOf(source: Uint8Array | DataFile): Uint8Array {
  if (!(source instanceof DataFile)) return source.subarray(0, HEAD)
  const head = new Uint8Array(Math.min(HEAD, source.size))
  source.readInto(head, 0)
  return head
}

/** Protobuf bytes in memory; deterministic. External tensors are inlined. */
export function encodeModel(model: Model): Uint8Array {
  return joined(encode(model, allInline(model)))
}

/** Hexadecimal digits of a fingerprint: 64 bits tell the versions of one model apart. */
const FINGERPRINT_DIGITS = 16

/** Files up to this size are hashed whole; of larger ones SAMPLE bytes of each STRIDE of a tensor: 500 MB took 0.4 s. */
const HASHED_WHOLE = 2 ** 25
const STRIDE = 2 ** 20
const SAMPLE = 2 ** 16

/**
 * The start of the SHA-256 of the file that mnc would write; external data count by where they are, and of tensors of
 * 1 MiB and more in files above 32 MiB every sixteenth 64 KiB.
 */
export function fingerprint(model: Model): string {
  const hash = createHash('sha256')
  const parts = encode(model, { place: (t) => (t.origin?.external ? 'keep' : undefined) })
  const whole = parts.reduce((n, p) => n + p.length, 0) <= HASHED_WHOLE
  for (const part of parts) {
    if (whole || part.length < STRIDE) for (const piece of pieces(part)) hash.update(piece)
    else
      for (let at = 0; at < part.length; at += STRIDE) hash.update(slice(part, at, Math.min(part.length, at + SAMPLE)))
  }
  return hash.digest('hex').slice(0, FINGERPRINT_DIGITS)
}

const encode = (model: Model, placement: TensorPlacement): Bytes[] =>
  encodeParts('ModelProto', modelToProto(model, placement))

/** Whether a path names the text form. */
export const isText = (path: string): boolean => /\.(onnxtxt|txt)$/i.test(path)

/** `path` '-' reads standard input. Files ending in .txt / .onnxtxt hold the text form. */
export async function readModel(path: string): Promise<Model> {
  if (path === '-') return decodeModel(await readFileBytes(path), { folder: process.cwd(), file: 'standard input' })
  if (!isText(path)) return decodeModel(await sourceOf(path), { folder: dirname(resolve(path)), file: path })
  const bytes = await readFileBytes(path)
  const { parseModel } = await import('./text-parse.ts')
  try {
    return parseModel(new TextDecoder().decode(bytes))
  } catch (error) {
    throw error instanceof MncError ? error.inFile(path) : error
  }
}

async function sourceOf(path: string): Promise<Uint8Array | DataFile> {
  const large = reading(path, () => {
    const stat = statSync(path)
    return stat.isFile() && stat.size >= LAZY_MINIMUM ? new DataFile(path) : null
  })
  return large ?? readFileBytes(path)
}

/** Writes to a temporary file next to `path`, then renames. '-' writes standard output. */
export async function writeModel(model: Model, path: string, options: WriteOptions = {}): Promise<void> {
  const { externalData = false } = options
  if (path !== '-' && isText(path)) {
    if (externalData) throw usageError('the text form contains its tensors and cannot have external data')
    const { printModel } = await import('./text.ts')
    return writeFileAtomic(path, printModel(model, { tensors: 'full' }))
  }
  if (path === '-') {
    if (externalData)
      throw usageError('external data needs an output file to be written next to', 'give an output file with -o')
    for (const part of encode(model, allInline(model)))
      for (const piece of pieces(part)) await writeFileAtomic('-', piece)
    return
  }
  const placement = placeTensors(model, path, externalData)
  const parts = encode(model, placement)
  const pending: PendingFile[] = []
  try {
    // the data first: a model must not appear before the file that it refers to
    if (placement.data.length > 0) pending.push(await writePending(`${path}.data`, placement.data))
    pending.push(await writePending(path, parts))
    await commitAll(pending)
  } catch (error) {
    throw fileError(error, path, 'written')
  } finally {
    for (const file of pending) await file.abort()
  }
}

/** Writes parts to a file that is not visible yet. */
async function writePending(path: string, parts: readonly Bytes[]): Promise<PendingFile> {
  const file = await openAtomic(path)
  try {
    let written = 0
    for (const part of parts)
      for (const piece of pieces(part)) {
        file.write(piece)
        written += piece.length
        if (written < BREATH) continue
        // signals are heard, and timers run, between synchronous writes
        await new Promise((done) => setImmediate(done))
        written = 0
      }
    return file
  } catch (error) {
    await file.abort()
    throw error
  }
}
