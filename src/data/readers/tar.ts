/**
 * Members of a tar archive (POSIX ustar and pax, GNU long names, base-256 sizes), found by their headers alone: nothing is
 * unpacked. Headers are checked by their sums; an archive that does not end with a block of zeros is cut off. One that is
 * compressed as a whole (gzip) is unpacked once, as a stream, into a temporary file.
 *
 * Not read: archives in other compressions, and sparse members.
 */
import { closeSync, createReadStream, fstatSync, openSync, statSync } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { createGunzip } from 'node:zlib'
import { MncError, usageError } from '../../base/errors.ts'
import { readAt, reading, readPart } from '../../base/files.ts'
import { noteRead } from '../../base/reads.ts'
import { keptScratch } from '../scratch.ts'

export interface TarMember {
  readonly name: string
  /** Where its bytes begin. */
  readonly offset: number
  readonly size: number
  /** Of the file that has them, where it is not the archive. */
  readonly descriptor: number | null
}

const BLOCK = 512
/** Names take no more. */
const MOST_NAME = 65_536
const inBlocks = (size: number): number => Math.ceil(size / BLOCK) * BLOCK

export interface Archive {
  readonly path: string
  /** Where it is unpacked; null for one that is not compressed. */
  readonly unpacked: { readonly descriptor: number; readonly offset: number; readonly size: number } | null
}

const GZIP = Buffer.from([0x1f, 0x8b])

/** What was unpacked in this process, by path and state. */
const known = new Map<string, Archive>()

/** A usage error for one that cannot be unpacked. */
export async function archiveOf(path: string): Promise<Archive> {
  const { ino, size, mtimeMs } = reading(path, () => statSync(path))
  noteRead(path)
  if (size < GZIP.length || !readPart(path, 0, GZIP.length).equals(GZIP)) return { path, unpacked: null }
  const state = `${path} ${ino} ${size} ${mtimeMs}`
  const archive = known.get(state) ?? (await unpackedOf(path))
  known.set(state, archive)
  return archive
}

async function unpackedOf(path: string): Promise<Archive> {
  const scratch = keptScratch()
  const offset = scratch.size
  try {
    await pipeline(createReadStream(path), createGunzip(), async (pieces: AsyncIterable<Buffer>) => {
      for await (const piece of pieces) scratch.append(piece)
    })
  } catch (cause) {
    if (cause instanceof MncError) throw cause
    throw usageError(`${path}: it is compressed, and damaged: ${cause instanceof Error ? cause.message : cause}`)
  }
  return { path, unpacked: { descriptor: scratch.descriptor, offset, size: scratch.size - offset } }
}

/** Regular files in an archive, in its order. A usage error that names it for what is damaged. */
export function* tarMembers({ path, unpacked }: Archive): Generator<TarMember, void, undefined> {
  if (unpacked) {
    const { descriptor, offset, size } = unpacked
    yield* members(path, { size, at: (own, count) => readAt(path, descriptor, offset + own, count) }, unpacked)
    return
  }
  const file = reading(path, () => openSync(path, 'r'))
  try {
    const { size } = fstatSync(file)
    yield* members(path, { size, at: (own, count) => readAt(path, file, own, count) }, null)
  } finally {
    closeSync(file)
  }
}

interface ArchiveBytes {
  readonly size: number
  at(offset: number, size: number): Buffer
}

function* members(
  path: string,
  bytes: ArchiveBytes,
  unpacked: Archive['unpacked'],
): Generator<TarMember, void, undefined> {
  const fault = (what: string, next?: string): MncError => usageError(`${path}: ${what}`, next)
  const all = bytes.size
  if (all === 0) throw fault('it is empty')
  const at = (offset: number, size: number): Buffer => {
    if (offset + size > all) throw fault(`it is truncated: ${all} bytes are there, and ${offset + size} are needed`)
    return bytes.at(offset, size)
  }
  let ended = false
  let said: { readonly name?: string | undefined; readonly size?: number | undefined } = {}
  for (let offset = 0; offset < all; ) {
    const head = at(offset, BLOCK)
    offset += BLOCK
    if (head.every((byte) => byte === 0)) {
      ended = true
      continue
    }
    ended = false
    if (sumOf(head) !== octal(head, 148, 8)) throw fault(`it is no tar archive, or damaged, at byte ${offset - BLOCK}`)
    const kind = String.fromCharCode(head[156]!)
    const isFile = kind === '0' || kind === '\0'
    const size = (isFile ? said.size : undefined) ?? octal(head, 124, 12)
    if (!(Number.isSafeInteger(size) && size >= 0)) throw fault(`the size of a member is damaged, at byte ${offset}`)
    if (kind === 'x') said = { ...said, ...paxOf(text(at(offset, Math.min(size, MOST_NAME)))) }
    else if (kind === 'L') said = { ...said, name: text(at(offset, Math.min(size, MOST_NAME))) }
    else {
      if (isFile) {
        if (offset + size > all) throw fault(`it is truncated within '${said.name ?? nameOf(head)}'`)
        const place = { offset: offset + (unpacked?.offset ?? 0), descriptor: unpacked?.descriptor ?? null }
        yield { name: said.name ?? nameOf(head), size, ...place }
      }
      said = {}
    }
    offset += inBlocks(size)
  }
  if (!ended) throw fault('it is truncated: the blocks of zeros at its end are missing')
}

const text = (bytes: Buffer): string => bytes.toString('utf8').replace(/\0.*$/s, '')

function nameOf(head: Buffer): string {
  const name = text(head.subarray(0, 100))
  const prefix = head.toString('latin1', 257, 262) === 'ustar' ? text(head.subarray(345, 500)) : ''
  return prefix === '' ? name : `${prefix}/${name}`
}

/** A number in octal digits, or binary where the first bit is set; NaN for neither. */
function octal(head: Buffer, at: number, length: number): number {
  if (head[at]! & 128) return head.subarray(at + 1, at + length).reduce((n, byte) => n * 256 + byte, 0)
  const digits = head.toString('latin1', at, at + length).replace(/[\0 ]+$/, '')
  return /^ *[0-7]*$/.test(digits) ? Number.parseInt(digits.trim() || '0', 8) : Number.NaN
}

/** Of all bytes, those of the sum itself as spaces. */
const sumOf = (head: Buffer): number => head.reduce((sum, byte, i) => sum + (i >= 148 && i < 156 ? 32 : byte), 0)

/** `LENGTH KEY=VALUE` lines. */
function paxOf(lines: string): { name?: string; size?: number } {
  const name = /^\d+ path=(.*)$/m.exec(lines)?.[1]
  const size = /^\d+ size=(\d+)$/m.exec(lines)?.[1]
  return { ...(name !== undefined && { name }), ...(size !== undefined && { size: Number(size) }) }
}
