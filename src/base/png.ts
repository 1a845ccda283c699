/** PNG files (ISO/IEC 15948) of 8 bits, grey or RGB. */
import { deflateSync } from 'node:zlib'
import { crc32 } from './crc32.ts'

const SIGNATURE = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1')
/** Colour types by channels. */
const TYPES: Readonly<Record<number, number>> = { 1: 0, 3: 2 }

/** `pixels`: rows of columns of channels, 1 or 3. */
export function encodePng(width: number, height: number, channels: number, pixels: Uint8Array): Buffer {
  const row = width * channels
  // each row begins with its filter, none
  const raw = Buffer.alloc(height * (row + 1))
  for (let y = 0; y < height; y++) raw.set(pixels.subarray(y * row, (y + 1) * row), y * (row + 1) + 1)
  const head = Buffer.alloc(13)
  head.writeUInt32BE(width, 0)
  head.writeUInt32BE(height, 4)
  head.set([8, TYPES[channels]!], 8)
  return Buffer.concat([
    SIGNATURE,
    chunk('IHDR', head),
    chunk('IDAT', deflateSync(raw)),
    chunk('IEND', Buffer.alloc(0)),
  ])
}

function chunk(name: string, data: Uint8Array): Buffer {
  const body = Buffer.concat([Buffer.from(name, 'latin1'), data])
  const out = Buffer.alloc(body.length + 8)
  out.writeUInt32BE(data.length, 0)
  body.copy(out, 4)
  out.writeUInt32BE(crc32(body), body.length + 4)
  return out
}
