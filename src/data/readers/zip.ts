/**
 * ZIP archives as numpy writes them (APPNOTE 4.3): stored or deflated entries, found by the central directory. What an
 * entry declares is verified: its size before and after it is unpacked, and its CRC-32. Does not read ZIP64 or encrypted entries.
 */
import { constants, inflateRawSync } from 'node:zlib'
import { crc32 } from '../../base/crc32.ts'
import type { MncError } from '../../base/errors.ts'

export interface ZipEntry {
  /** Bytes that it says it unpacks to. */
  readonly bytes: number
  /** The beginning of its contents, unchecked: at least what the first 4 KB of the archive's entry unpack to. */
  head(): Buffer
  /** All of it, checked. */
  read(): Buffer
}

type Fault = (message: string) => MncError

const HEAD = 4096
const ZIP64 = 0xffffffff

/** Names to entries; a fault for anything that is damaged or of a kind that is not read. */
export function readZip(zip: Buffer, fault: Fault): ReadonlyMap<string, ZipEntry> {
  if (zip.length === 0) throw fault('it is empty')
  const end = zip.lastIndexOf('PK\x05\x06')
  if (end < 0) throw fault('this is not a ZIP archive, and therefore not an .npz file')
  try {
    return directory(zip, end, fault)
  } catch (cause) {
    // an offset beyond the file
    if (cause instanceof RangeError) throw fault('its ZIP directory is damaged')
    throw cause
  }
}

function directory(zip: Buffer, end: number, fault: Fault): ReadonlyMap<string, ZipEntry> {
  const entries = new Map<string, ZipEntry>()
  let at = zip.readUInt32LE(end + 16)
  if (at === ZIP64) throw fault('it is a ZIP64 archive, which is not supported')
  for (let n = zip.readUInt16LE(end + 10); n > 0; n--) {
    if (zip.readUInt32LE(at) !== 0x02014b50) throw fault('its ZIP directory is damaged')
    const nameLength = zip.readUInt16LE(at + 28)
    const name = zip.subarray(at + 46, at + 46 + nameLength).toString('utf8')
    if (entries.has(name)) throw fault(`it contains '${name}' twice`)
    entries.set(name, entryAt(zip, at, name, fault))
    at += 46 + nameLength + zip.readUInt16LE(at + 30) + zip.readUInt16LE(at + 32)
  }
  return entries
}

function entryAt(zip: Buffer, at: number, name: string, fault: Fault): ZipEntry {
  const [flags, method] = [zip.readUInt16LE(at + 8), zip.readUInt16LE(at + 10)]
  const crc = zip.readUInt32LE(at + 16)
  const [packed, bytes] = [zip.readUInt32LE(at + 20), zip.readUInt32LE(at + 24)]
  const local = zip.readUInt32LE(at + 42)
  const body = (): Buffer => {
    if ([packed, bytes, local].includes(ZIP64)) throw fault(`'${name}' is a ZIP64 entry, which is not supported`)
    if (flags & 1) throw fault(`'${name}' is encrypted`)
    if (method !== 0 && method !== 8) throw fault(`'${name}' is compressed by an unsupported method (${method})`)
    if (local + 30 > zip.length || zip.readUInt32LE(local) !== 0x04034b50) throw fault(`'${name}' is damaged`)
    const from = local + 30 + zip.readUInt16LE(local + 26) + zip.readUInt16LE(local + 28)
    if (from + packed > zip.length) throw fault(`'${name}' is truncated`)
    if (method === 0 && packed !== bytes) throw fault(`'${name}' is damaged: two sizes, ${packed} and ${bytes}`)
    return zip.subarray(from, from + packed)
  }
  const unpack = (packedBytes: Buffer, options: Parameters<typeof inflateRawSync>[1]): Buffer => {
    if (method === 0) return packedBytes
    try {
      return inflateRawSync(packedBytes, options)
    } catch (cause) {
      const code = cause instanceof Error && 'code' in cause ? cause.code : ''
      if (code === 'ERR_BUFFER_TOO_LARGE') throw fault(`'${name}' unpacks to more than the ${bytes} bytes it declares`)
      throw fault(`'${name}' cannot be unpacked: ${cause instanceof Error ? cause.message : cause}`)
    }
  }
  return {
    bytes,
    head: () => unpack(body().subarray(0, HEAD), { finishFlush: constants.Z_SYNC_FLUSH }),
    read() {
      const whole = unpack(body(), { maxOutputLength: Math.max(1, bytes) })
      if (whole.length !== bytes) throw fault(`'${name}' unpacks to ${whole.length} bytes but declares ${bytes}`)
      if (crc32(whole) !== crc) throw fault(`'${name}' is damaged: its CRC does not match`)
      return whole
    },
  }
}
