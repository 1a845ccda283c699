/** What the documents' commands expect to find: files by the names that the documents give them, small, made when a line first names one. */
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { Rng } from '../../src/base/rng.ts'
import { encodeModel } from '../../src/codec/codec.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { NetworkBuilder } from '../../src/models/layers.ts'
import { cifarRecord, npy, npz, png } from '../support/data-files.ts'
import { blocksOf } from './blocks.ts'

/** Makes a file at a path; `mnc` runs a command line in its folder. */
type Make = (path: string, mnc: (line: string) => void) => void

const SIZE = 32
/** Of CIFAR-10. */
const CLASSES = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']

const write = (path: string, bytes: Uint8Array | string): void => {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, bytes)
}

/** A network for pictures: three convolutions with their normalisations, and a classifier. */
const fresh =
  (classes: number): Make =>
  (path) => {
    const net = new NetworkBuilder(new Rng(1))
    let x = net.input({ channels: 3, size: SIZE })
    for (const [name, channels] of [
      ['stem', 8],
      ['middle', 12],
      ['last', 16],
    ] as const)
      x = net.relu(net.batchNorm(net.conv(x, name, channels, { kernel: 3, stride: 2 }), `${name}.bn`), `${name}.relu`)
    write(path, encodeModel(net.output(net.linear(net.globalAveragePool(x, 'pool'), 'fc', classes, 'logits'))))
  }

let learnt: Uint8Array | undefined

/** One that tells the ten classes apart. */
const trained: Make = (path, mnc) => {
  if (learnt) return write(path, learnt)
  fresh(10)(path, mnc)
  const name = basename(path)
  mnc(`mnc train ${name} --data cifar10:DIR --epochs 6 --batch 10 --lr 0.05 --augment none -o ${name}`)
  learnt = readFileSync(path)
}

/** Another file by a command. */
const made =
  (line: string): Make =>
  (_, mnc) =>
    mnc(line)

/** Pictures of a class have a colour in common. */
function picture(label: number, rng: Rng): number[] {
  const tint = (label * 37) % 200
  return Array.from({ length: 3 * SIZE * SIZE }, (_, i) => (i < SIZE * SIZE ? tint : 100) + rng.integer(56))
}

/** One folder that is a data set of every kind, since documents call each of them DIR or data. */
const dataSets: Make = (path) => {
  const rng = new Rng(3)
  const at = (name: string): string => join(path, name)
  const records = (count: number, labels: (i: number) => number[]): Buffer =>
    Buffer.concat(
      Array.from({ length: count }, (_, i) => {
        const pixels = picture(labels(i).at(-1)!, rng)
        return cifarRecord(labels(i), (k) => pixels[k]!)
      }),
    )
  for (let part = 1; part <= 5; part++)
    write(
      at(`data_batch_${part}.bin`),
      records(20, (i) => [i % 10]),
    )
  write(
    at('test_batch.bin'),
    records(40, (i) => [i % 10]),
  )
  write(
    at('train.bin'),
    records(200, (i) => [Math.floor((i % 100) / 5), i % 100]),
  )
  write(
    at('test.bin'),
    records(100, (i) => [Math.floor((i % 100) / 5), i % 100]),
  )
  for (const [split, count] of [
    ['train', 10],
    ['test', 4],
  ] as const) {
    for (const [c, name] of CLASSES.entries())
      for (let i = 0; i < count; i++) {
        const planes = picture(c, rng)
        const pixels = planes.map((_, k) => planes[(k % 3) * SIZE * SIZE + Math.floor(k / 3)]!)
        write(at(`${split}/${name}/${i}.png`), png(SIZE, SIZE, 3, pixels))
      }
    const floats = (...dims: number[]): Buffer => {
      const size = dims.reduce((a, b) => a * b)
      return npy(
        Float32Array.from({ length: size }, () => rng.normal()),
        dims,
      )
    }
    write(at(`${split}/input.npy`), floats(32, 3, SIZE, SIZE))
    write(at(`${split}/logits.npy`), floats(32, 10))
  }
}

/** Tokens to scores of two classes: an embedding, their mean, a layer. Both dims of the input are symbols. */
const tokens: Make = (path) => {
  const model = new Model()
  const { graph } = model
  const rng = new Rng(7)
  const b = graph.append()
  const weight = (name: string, ...dims: number[]) =>
    b.initializer(
      name,
      Tensor.float32(
        dims,
        Float32Array.from({ length: dims.reduce((a, c) => a * c) }, () => rng.normal()),
      ),
    )
  const ids = graph.addInput('ids', { elem: 'int64', dims: ['batch', 'sequence'] })
  const mean = b.op('ReduceMean', [b.op('Gather', [weight('table', 50, 16), ids]), b.ints([1])], { keepdims: 0 })
  const type = { elem: 'float32', dims: ['batch', 2] } as const
  graph.addOutput(b.op('MatMul', [mean, weight('w', 16, 2)], {}, { name: 'scores', type }))
  write(path, encodeModel(model))
}

/** The network of examples/detector, and its data. */
const detector: Make = (path, mnc) => {
  cpSync(join(import.meta.dirname, '../../examples/detector/make.mjs'), join(dirname(path), 'make.mjs'))
  mnc('node make.mjs')
}

const detectorData: Make = (path) => {
  const array = (name: string): Buffer => readFileSync(join(dirname(path), `data/test/${name}.npy`))
  write(path, npz({ image: array('image'), boxes: array('boxes') }))
}

/** The recipe that a document shows. */
const shownRecipe: Make = (path, mnc) => {
  fresh(10)(join(dirname(path), 'resnet56.onnx'), mnc)
  const recipe = blocksOf('docs/recipes.md').find(({ kind }) => kind === 'json')!
  const smaller: Readonly<Record<string, unknown>> = {
    build: { family: 'resnet', depth: 8, width: 4, size: SIZE, classes: 10 },
  }
  const short = (key: string, value: unknown): unknown =>
    key === 'train' && typeof value === 'object' ? { ...value, 'max-steps': 2 } : (smaller[key] ?? value)
  write(path, JSON.stringify(JSON.parse(recipe.body, short)))
}

/** The recipe of the package with smaller networks, which have no normalisations, and fewer steps and samples. */
const shortQuickstart: Make = (path) => {
  const short = (key: string, value: unknown): unknown => {
    if (key === 'build') return 'lenet'
    if (key === 'all-but') return ['fc3']
    if (key === 'bn-update') return undefined
    if (key === 'check') return [{ limit: 32, 'max-change': 0.001 }]
    if (key === 'defaults') return { eval: { limit: 32 } }
    return key === 'train' && typeof value === 'object' ? { ...value, 'max-steps': 2 } : value
  }
  const recipe = readFileSync(join(import.meta.dirname, '../../models/quickstart.json'), 'utf8')
  write(path, JSON.stringify(JSON.parse(recipe, short)))
}

const makers: Readonly<Record<string, Make>> = {
  'net.onnx': trained,
  'x.onnx': fresh(10),
  'old.onnx': fresh(10),
  'model.onnx': fresh(10),
  'lenet.onnx': made('mnc build lenet -o lenet.onnx'),
  'student.onnx': fresh(100),
  'teacher.onnx': fresh(100),
  'student.prune.onnx': made('mnc prune --sparsity 0.75 student.onnx'),
  'trained.onnx': made('mnc quantize --data random student.onnx -o trained.onnx'),
  'student.w4a4.onnx': made('mnc quantize --data random student.onnx -o student.w4a4.onnx'),
  'a.onnx': tokens,
  'b.onnx': tokens,
  'text.onnx': tokens,
  'detector.onnx': detector,
  'detector.int8.onnx': made('mnc quantize detector.onnx --data random --first-layer quantize -o detector.int8.onnx'),
  'recipe.json': shownRecipe,
  quickstart: shortQuickstart,
  FILE: detectorData,
  DIR: dataSets,
  data: dataSets,
}

/** Where a document means another network by a name. */
const inDocument: Readonly<Record<string, Readonly<Record<string, Make>>>> = {
  'docs/compression.md': { 'student.onnx': trained },
  'docs/integer-networks.md': { 'net.onnx': fresh(100) },
}

/** Where a file is not called what a line calls it. */
const fileOf: Readonly<Record<string, string>> = { quickstart: 'quickstart.json' }

/** Makes what a line names and what is not there, those that follow from others behind them. */
export function makeExpected(document: string, line: string, folder: string, mnc: (line: string) => void): void {
  const known = { ...makers, ...inDocument[document] }
  const output = /\s-o (\S+)/.exec(line)?.[1]
  const named = new Set(line.split(/[\s:#=]+/).filter((word) => word !== output))
  const make = (name: string): void => {
    const path = join(folder, fileOf[name] ?? name)
    if (existsSync(path)) return
    known[name]!(path, (own) => {
      makeExpected(document, own, folder, mnc)
      mnc(own)
    })
  }
  for (const name of Object.keys(known)) if (named.has(name)) make(name)
}
