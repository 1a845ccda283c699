/**
 * 100 inputs of a model's kind as .npy files, for `--data npy:DIR`: networks for pictures get mosaics of CIFAR-100's test images, twice
 * as large, magika the beginnings and ends of files, and transformers tokens of their vocabulary at random. And how well the boxes of
 * detectors agree on further ones.
 */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { Rng } from '../../src/base/rng.ts'

type Values = Float32Array | Int32Array | BigInt64Array
export interface Inputs {
  /** Dims of one sample. */
  readonly dims: readonly number[]
  readonly sample: (rng: Rng) => Values
}
export type Kind = Readonly<Record<string, Inputs>>

const COUNT = 100
const TILE = 64
const CIFAR = { record: 3074, pixels: 2, side: 32 }

let pictures: Buffer | null = null

/** A colour of a mosaic; bilinear. */
function mosaic(rng: Rng, height: number, width: number): (channel: number, y: number, x: number) => number {
  pictures ??= readFileSync('.data/cifar-100/test.bin')
  const all = pictures
  const columns = Math.ceil(width / TILE)
  const tiles = Array.from({ length: columns * Math.ceil(height / TILE) }, () => rng.integer(all.length / CIFAR.record))
  const last = CIFAR.side - 1
  return (channel, y, x) => {
    const from = tiles[Math.floor(y / TILE) * columns + Math.floor(x / TILE)]! * CIFAR.record + CIFAR.pixels
    const [v, u] = [y, x].map((p) => Math.min(last, Math.max(0, ((p % TILE) * CIFAR.side) / TILE - 0.25))) as [
      number,
      number,
    ]
    const at = (i: number, j: number): number =>
      all[from + (channel * CIFAR.side + Math.min(i, last)) * CIFAR.side + Math.min(j, last)]!
    const [i, j] = [Math.floor(v), Math.floor(u)]
    const row = (k: number): number => at(k, j) * (1 - (u - j)) + at(k, j + 1) * (u - j)
    return row(i) * (1 - (v - i)) + row(i + 1) * (v - i)
  }
}

function picture(height: number, width: number, channels: readonly number[], pixel: (value: number) => number): Inputs {
  return {
    dims: [channels.length, height, width],
    sample(rng) {
      const colour = mosaic(rng, height, width)
      const out = new Float32Array(channels.length * height * width)
      let k = 0
      for (const c of channels)
        for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) out[k++] = pixel(colour(c, y, x))
      return out
    },
  }
}

const PADDING = 256
const HALF = 2048
let files: readonly string[] | null = null

/** The first and the last 2,048 bytes of a file that the packages here hold. */
const bytesOfFiles: Inputs = {
  dims: [2 * HALF],
  sample(rng) {
    files ??= readdirSync('node_modules', { recursive: true, withFileTypes: true })
      .filter((f) => f.isFile() && statSync(join(f.parentPath, f.name)).size > 0)
      .map((f) => join(f.parentPath, f.name))
      .sort()
    const all = readFileSync(files[rng.integer(files.length)]!)
    const out = new Int32Array(2 * HALF).fill(PADDING)
    out.set(all.subarray(0, HALF))
    const end = all.subarray(Math.max(0, all.length - HALF))
    out.set(end, 2 * HALF - end.length)
    return out
  },
}

const tokens = (length: number, of: number): Inputs => ({
  dims: [length],
  sample: (rng) => BigInt64Array.from({ length }, () => BigInt(of === 1 ? 1 : rng.integer(of))),
})

export const kinds = {
  ultraface: { input: picture(240, 320, [0, 1, 2], (v) => (v - 127) / 128) },
  fastestdet: { input: picture(352, 352, [2, 1, 0], (v) => v / 255) },
  'super-resolution': { input: picture(224, 224, [1], (v) => v / 255) },
  magika: { bytes: bytesOfFiles },
  bert: { input_ids: tokens(32, 99), token_type_ids: tokens(32, 2), input_mask: tokens(32, 1) },
} as const satisfies Readonly<Record<string, Kind>>

/** Writes the inputs to `folder`. */
export function writeInputs(kind: Kind, folder: string): void {
  mkdirSync(folder, { recursive: true })
  for (const [name, { dims, sample }] of Object.entries(kind)) {
    const rng = new Rng(1, 1)
    const all = Array.from({ length: COUNT }, () => sample(rng))
    const [first] = all
    const type = first instanceof Float32Array ? 'f4' : first instanceof Int32Array ? 'i4' : 'i8'
    const text = `{'descr': '<${type}', 'fortran_order': False, 'shape': (${[COUNT, ...dims].join(', ')},), }`
    const header = Buffer.from(`${text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11)}\n`, 'latin1')
    const start = Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, header.length & 255, header.length >> 8])
    const data = all.map((values) => Buffer.from(values.buffer, values.byteOffset, values.byteLength))
    writeFileSync(join(folder, `${name}.npy`), Buffer.concat([start, header, ...data]))
  }
}

/** [left, top, right, bottom] of each box. */
type Boxes = (outputs: InferenceSession.OnnxValueMapType) => readonly (readonly number[])[]

const rowsOf = (t: Tensor, width: number): readonly Float32Array[] =>
  Array.from({ length: t.size / width }, (_, i) => (t.data as Float32Array).subarray(i * width, (i + 1) * width))

const SIDE = 22
/** Boxes of the detectors, as their authors decode them. */
const boxesOf: Readonly<Record<string, Boxes>> = {
  ultraface: (o) => rowsOf(o.boxes as Tensor, 4).map((r) => [...r]),
  fastestdet: (o) =>
    rowsOf(o.output as Tensor, 85).map((r, i) => {
      const [x, y] = [((i % SIDE) + r[1]!) / SIDE, (Math.floor(i / SIDE) + r[2]!) / SIDE]
      return [x - r[3]! / 2, y - r[4]! / 2, x + r[3]! / 2, y + r[4]! / 2]
    }),
}

function overlap(a: readonly number[], b: readonly number[]): number {
  const area = ([l, t, r, u]: readonly number[]): number => Math.max(0, r! - l!) * Math.max(0, u! - t!)
  const both = area([Math.max(a[0]!, b[0]!), Math.max(a[1]!, b[1]!), Math.min(a[2]!, b[2]!), Math.min(a[3]!, b[3]!)])
  return both / (area(a) + area(b) - both)
}

const FURTHER = 20

/** Share of all boxes whose intersection over union with the float model's is 0.95, on 20 further inputs; null where there are no boxes. */
export async function boxesWithin(name: string, float: string, file: string): Promise<number | null> {
  const boxes = boxesOf[name]
  if (!boxes) return null
  const { input } = kinds[name as 'ultraface']
  const sessions = await Promise.all([float, file].map((path) => InferenceSession.create(path)))
  const rng = new Rng(2, 1)
  let [within, all] = [0, 0]
  for (let i = 0; i < FURTHER; i++) {
    const fed = new Tensor('float32', input.sample(rng) as Float32Array, [1, ...input.dims])
    const [a, b] = await Promise.all(sessions.map(async (s) => boxes(await s.run({ [s.inputNames[0]!]: fed }))))
    all += a!.length
    within += a!.filter((box, k) => overlap(box, b![k]!) >= 0.95).length
  }
  return within / all
}
