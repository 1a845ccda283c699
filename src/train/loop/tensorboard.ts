/**
 * Scalars for TensorBoard: an event file, that is a TFRecord stream of `Event` protocol buffers.
 *
 *   record  uint64 length, masked crc32c(length), bytes, masked crc32c(bytes)      little-endian
 *   Event   { 1: wall_time double, 2: step int64, 3: file_version string, 5: summary, 7: session_log }
 *   Summary { 1: Value { 1: tag string, 2: simple_value float } }
 *
 * Source: tensorflow/core/util/event.proto, summary.proto, lib/io/record_writer.cc. A resumed run writes a file of its
 * own that begins with SessionLog START, by which TensorBoard drops what a killed run logged after its checkpoint.
 */
import { type FileHandle, mkdir, open } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { writing } from '../../base/files.ts'
import type { TrainEvent } from './train-run.ts'

const WIRE = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const
const SESSION_START = 1

export class TensorBoardLog {
  readonly #folder: string
  #path = ''
  #file: FileHandle | null = null
  /** Steps done. */
  #step = 0

  /** The file is made in `folder` with the first event. */
  constructor(folder: string) {
    this.#folder = folder
  }

  async write(event: TrainEvent): Promise<void> {
    if (event.kind === 'start') await this.#start(event.step)
    else if (event.kind === 'step') {
      const { step, loss, losses = {}, lr, gradientNorm, top1, imagesPerSecond } = event
      this.#step = step
      const scalars = { loss, learning_rate: lr, gradient_norm: gradientNorm, images_per_second: imagesPerSecond }
      const named = prefixed('train', top1 === null ? scalars : { ...scalars, top1 })
      await this.#scalars(step, { ...named, ...prefixed('train/loss', losses) })
    } else if (event.kind === 'epoch' && event.valLoss !== null) {
      await this.#scalars(this.#step, prefixed('validation', { loss: event.valLoss, top1: event.valTop1 ?? 0 }))
    }
  }

  async close(): Promise<void> {
    await writing(this.#path, async () => this.#file?.close())
    this.#file = null
  }

  async #start(step: number): Promise<void> {
    const seconds = Math.floor(Date.now() / 1000)
    this.#path = join(this.#folder, `events.out.tfevents.${seconds}.${hostname()}.${process.pid}`)
    this.#file = await writing(this.#path, async () => {
      await mkdir(this.#folder, { recursive: true })
      return open(this.#path, 'a')
    })
    await this.#record(eventOf(0, bytesField(3, Buffer.from('brain.Event:2'))))
    if (step > 0) await this.#record(eventOf(step, bytesField(7, varintField(1, SESSION_START))))
  }

  async #scalars(step: number, scalars: Readonly<Record<string, number>>): Promise<void> {
    const values = Object.entries(scalars).map(([tag, value]) =>
      bytesField(1, Buffer.concat([bytesField(1, Buffer.from(tag)), floatField(2, value)])),
    )
    await this.#record(eventOf(step, bytesField(5, Buffer.concat(values))))
  }

  async #record(data: Buffer): Promise<void> {
    const length = Buffer.alloc(8)
    length.writeBigUInt64LE(BigInt(data.length))
    const bytes = Buffer.concat([length, checksum(length), data, checksum(data)])
    await writing(this.#path, async () => this.#file?.appendFile(bytes))
  }
}

const prefixed = (group: string, scalars: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(scalars).map(([tag, value]) => [`${group}/${tag}`, value]))

/** Masked, as TFRecord stores it: rotated right by 15 and shifted by a constant. */
function checksum(data: Uint8Array): Buffer {
  const crc = crc32c(data)
  const out = Buffer.alloc(4)
  out.writeUInt32LE((((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0)
  return out
}

/** Castagnoli's polynomial, bits reversed. */
const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n
  for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1
  return c
})

function crc32c(data: Uint8Array): number {
  let crc = 0xffffffff
  for (let i = 0; i < data.length; i++) crc = TABLE[(crc ^ data[i]!) & 255]! ^ (crc >>> 8)
  return (crc ^ 0xffffffff) >>> 0
}

const eventOf = (step: number, what: Buffer): Buffer =>
  Buffer.concat([doubleField(1, Date.now() / 1000), varintField(2, step), what])

function doubleField(field: number, value: number): Buffer {
  const out = Buffer.alloc(9)
  out[0] = (field << 3) | WIRE.fixed64
  out.writeDoubleLE(value, 1)
  return out
}

function floatField(field: number, value: number): Buffer {
  const out = Buffer.alloc(5)
  out[0] = (field << 3) | WIRE.fixed32
  out.writeFloatLE(value, 1)
  return out
}

const varintField = (field: number, value: number): Buffer =>
  Buffer.from([(field << 3) | WIRE.varint, ...varint(value)])

const bytesField = (field: number, bytes: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from([(field << 3) | WIRE.bytes, ...varint(bytes.length)]), bytes])

function varint(value: number): number[] {
  const out: number[] = []
  let rest = value
  for (; rest > 127; rest = Math.floor(rest / 128)) out.push((rest % 128) | 128)
  return [...out, rest]
}
