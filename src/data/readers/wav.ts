/**
 * WAV files (RIFF/WAVE): PCM of 8 (unsigned), 16, 24 and 32 bits, and floats of 32 and 64, in any number of channels. Numbers are
 * value / 2^(bits - 1), so -1 to just below 1, as soundfile and torchaudio read them; of 8 bits (value - 128) / 128. Channels are
 * mixed to one by their mean, as librosa does it. Compressed kinds (A-law, ADPCM) and RF64 are refused.
 */
import { closeSync, fstatSync, openSync } from 'node:fs'
import { type MncError, usageError } from '../../base/errors.ts'
import { readAt, reading } from '../../base/files.ts'

export interface WavHeader {
  /** Samples a second. */
  readonly rate: number
  readonly channels: number
  readonly bits: number
  readonly isFloat: boolean
  /** Samples of each channel. */
  readonly frames: number
  /** Where they begin. */
  readonly offset: number
}

const [PCM, FLOAT, EXTENSIBLE] = [1, 3, 0xfffe] as const
const names: Readonly<Record<number, string>> = { 2: 'ADPCM', 6: 'A-law', 7: 'mu-law', 17: 'IMA ADPCM', 85: 'MP3' }
const widths: readonly string[] = ['1 8', '1 16', '1 24', '1 32', '3 32', '3 64']
/** What writers that cannot seek back put in place of a size. */
const UNKNOWN = 0xffffffff

export const readWavHeader = (path: string): WavHeader => opened(path, (file) => headerOf(path, file))

/** The mean of the channels, -1 to 1. */
export function readWav(path: string): { readonly rate: number; readonly mono: Float32Array } {
  return opened(path, (file) => {
    const header = headerOf(path, file)
    const bytes = readAt(path, file, header.offset, header.frames * header.channels * (header.bits / 8))
    return { rate: header.rate, mono: mixed(bytes, header) }
  })
}

function headerOf(path: string, file: number): WavHeader {
  const { size } = fstatSync(file)
  const fault = (what: string): MncError => usageError(`${path}: ${what}`)
  const head = size < 12 ? '' : readAt(path, file, 0, 12).toString('latin1')
  if (head.slice(0, 4) !== 'RIFF' || head.slice(8) !== 'WAVE')
    throw fault(size === 0 ? 'it is empty' : 'it is not a WAV file (RIFF, WAVE)')
  let format: ReturnType<typeof formatOf> | null = null
  for (let at = 12; at + 8 <= size; ) {
    const chunk = readAt(path, file, at, 8)
    const [name, declared] = [chunk.toString('latin1', 0, 4), chunk.readUInt32LE(4)]
    const inside = size - at - 8
    if (name === 'fmt ') format = formatOf(readAt(path, file, at + 8, Math.min(declared, inside, 40)), fault)
    if (name === 'data') {
      if (!format) throw fault('its sound comes before its format')
      const length = declared === UNKNOWN ? inside : declared
      if (length > inside) throw fault(`it is truncated: ${inside} of ${length} bytes of sound are there`)
      const frames = Math.floor(length / (format.channels * (format.bits / 8)))
      if (frames === 0) throw fault('there is no sound in it')
      return { ...format, frames, offset: at + 8 }
    }
    // chunks begin at even places
    at += 8 + declared + (declared % 2)
  }
  throw fault(format ? 'there is no sound in it' : 'it does not state its format')
}

function formatOf(chunk: Buffer, fault: (what: string) => MncError) {
  if (chunk.length < 16) throw fault('its format is truncated')
  const said = chunk.readUInt16LE(0)
  const kind = said === EXTENSIBLE && chunk.length >= 26 ? chunk.readUInt16LE(24) : said
  const [channels, rate, bits] = [chunk.readUInt16LE(2), chunk.readUInt32LE(4), chunk.readUInt16LE(14)]
  if (kind !== PCM && kind !== FLOAT)
    throw fault(`its sound is ${names[kind] ?? `of the kind ${kind}`}; PCM and floats are read`)
  if (!widths.includes(`${kind} ${bits}`))
    throw fault(`its ${kind === FLOAT ? 'floats' : 'numbers'} have ${bits} bits, which are not read`)
  if (channels === 0 || rate === 0) throw fault(`it states ${channels} channels at ${rate} Hz`)
  return { channels, rate, bits, isFloat: kind === FLOAT }
}

function mixed(bytes: Buffer, { channels, bits, isFloat, frames }: WavHeader): Float32Array {
  const value = reader(bytes, bits, isFloat)
  const out = new Float32Array(frames)
  for (let f = 0, i = 0; f < frames; f++) {
    let sum = 0
    for (let c = 0; c < channels; c++) sum += value(i++)
    out[f] = sum / channels
  }
  return out
}

function reader(bytes: Buffer, bits: number, isFloat: boolean): (i: number) => number {
  if (isFloat) return bits === 32 ? (i) => bytes.readFloatLE(i * 4) : (i) => bytes.readDoubleLE(i * 8)
  if (bits === 8) return (i) => (bytes[i]! - 128) / 128
  const width = bits / 8
  const scale = 2 ** (1 - bits)
  return (i) => bytes.readIntLE(i * width, width) * scale
}

function opened<T>(path: string, work: (file: number) => T): T {
  return reading(path, () => {
    const file = openSync(path, 'r')
    try {
      return work(file)
    } finally {
      closeSync(file)
    }
  })
}
