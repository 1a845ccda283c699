/**
 * Which programs load a file, and from which version on, judged by its contents. Facts measured, file by file, with
 * onnxruntime 1.16.3, 1.18.1, 1.20.1, 1.22.1, 1.23.2, 1.24.1 and newer, OpenVINO 2026.4 and OpenCV 5.0; the oldest version of each
 * table is the oldest that was tried; onnxruntime-web 1.30 in Chromium, on WebAssembly and both of its WebGPUs,
 * MatMulNBits on WebAssembly alone. TensorRT's are those of its documents (explicit quantisation), not measured.
 *
 * Opsets up to 19 are those of onnxruntime 1.16; 20 and 21 were tried with 1.18, later ones with 1.30 alone. Of operators of other
 * domains it knows MatMulNBits alone. Says not whether a reader has every operator.
 */
import { usageError } from '../base/errors.ts'
import type { Graph, Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { elementTypes } from '../graph/types.ts'
import { isCast, isDequantize, isExtremum, isQuantize } from '../ops/facts.ts'
import { packedProduct } from '../ops/packed-product.ts'

const oldest = {
  ...{ onnxruntime: '1.16', 'onnxruntime-web': '1.30', openvino: '2026.4', opencv: '5.0', tensorrt: '8.6' },
} as const

export type ReaderName = keyof typeof oldest
export const readerNames = Object.keys(oldest) as readonly ReaderName[]

/** Names that people know them by. */
const titles: Readonly<Record<ReaderName, string>> = {
  ...{
    onnxruntime: 'onnxruntime',
    'onnxruntime-web': 'onnxruntime-web',
    openvino: 'OpenVINO',
    opencv: 'OpenCV',
    tensorrt: 'TensorRT',
  },
}

/** The version from which on each reader takes it; null: no version that was tried. Absent: all of them do. */
type Since = Partial<Readonly<Record<ReaderName, string | null>>>

/** What of a file's contents not every reader takes. */
const facts = {
  ir10: { onnxruntime: '1.18' },
  opset20: { onnxruntime: '1.18' },
  opset22: { onnxruntime: '1.30' },
  int4: { onnxruntime: '1.20', opencv: null, tensorrt: '10.0' },
  castInt4: { onnxruntime: '1.23', opencv: null, tensorrt: null },
  /** Min and Max of 8-bit integers. */
  extremumInt8: { onnxruntime: '1.24', tensorrt: null },
  /** MatMulNBits; of other than 4 bits, onnxruntime 1.30 is the oldest that was tried after 1.18, which refuses them. */
  products: { onnxruntime: '1.18', opencv: null, tensorrt: null },
  productsNot4: { onnxruntime: '1.30', opencv: null, tensorrt: null },
  /** Of 8 bits: computed wrongly by the default WebGPU of onnxruntime-web, rightly by its WebAssembly and `onnxruntime-web/webgpu`. */
  dequantised: { 'onnxruntime-web': null },
  /** Integers with a zero point other than 0, and unsigned ones. */
  asymmetric: { tensorrt: null },
} as const satisfies Readonly<Record<string, Since>>

export interface Reading {
  readonly reader: ReaderName
  /** Its name for people. */
  readonly title: string
  /** The oldest version that is known to load the file; null where none does. */
  readonly since: string | null
  /** What in the file requires that; null for the oldest version that was tried. */
  readonly because: string | null
}

export type Fact = keyof typeof facts

/** What a file contains that not every reader takes. */
export interface Demand {
  readonly fact: Fact
  /** As people read it. */
  readonly because: string
}

/** By reader, all of them. */
export const readersOf = (model: Model): readonly Reading[] => readersFor([...demandsOf(model)])

/** Of a file with such contents. */
export function readersFor(demands: readonly Demand[]): readonly Reading[] {
  return readerNames.map((reader) => {
    let most: Reading = { reader, title: titles[reader], since: oldest[reader], because: null }
    for (const { fact, because } of demands) {
      const since: Since = facts[fact]
      const own = since[reader]
      if (own === undefined || most.since === null) continue
      if (own === null || isOlder(most.since, own)) most = { ...most, since: own, because }
    }
    return most
  })
}

/** `1.9` is older than `1.16`. */
export function isOlder(a: string, b: string): boolean {
  const [x, y] = [a, b].map((v) => v.split('.').map(Number))
  const at = Array.from({ length: Math.max(x!.length, y!.length) }, (_, i) => i).find(
    (i) => (x![i] ?? 0) !== (y![i] ?? 0),
  )
  return at !== undefined && (x![at] ?? 0) < (y![at] ?? 0)
}

/** A reader as options name it: `onnxruntime>=1.24`, or `openvino`, which is the oldest version that was tried. */
export interface Wanted {
  readonly reader: ReaderName
  readonly version: string
}

export function parseReader(text: string): Wanted {
  const [, name = '', version] = /^\s*([a-z-]+)\s*(?:>=\s*(\d+(?:\.\d+)*))?\s*$/i.exec(text) ?? []
  const reader = readerNames.find((r) => r === name.toLowerCase())
  if (!reader)
    throw usageError(
      `'${text}' is no reader`,
      `name one of ${readerNames.join(', ')}, with its oldest version if you like: "onnxruntime>=1.24"`,
    )
  return { reader, version: version ?? oldest[reader] }
}

/** Why a reader does not take the file; null where it does. */
export function refusalOf(readings: readonly Reading[], { reader, version }: Wanted): string | null {
  const { title, since, because } = readings.find((r) => r.reader === reader)!
  if (since === null) return `${title} does not read ${because}`
  if (!isOlder(version, since)) return null
  return because === null ? `${title} was not tried before ${since}` : `${because} needs ${title} ${since}`
}

export function* demandsOf({ irVersion, opset, graph, functions }: Model): Generator<Demand> {
  const graphs = [graph, ...functions.map((f) => f.graph)]
  if (irVersion >= 10) yield { fact: 'ir10', because: `IR ${irVersion}` }
  if (opset >= 20) yield { fact: opset >= 22 ? 'opset22' : 'opset20', because: `opset ${opset}` }
  for (const { value, type } of typesOf(graphs)) {
    const { bits } = elementTypes[type]
    const [readers, quantiser] = [[...value.uses], value.producer && isQuantize(value.producer)]
    if (bits === 4) {
      yield { fact: 'int4', because: `${type} values` }
      if (readers.some(isCast)) yield { fact: 'castInt4', because: `a Cast from ${type}` }
    }
    if (/^u?int8$/.test(type) && readers.some(isExtremum))
      yield { fact: 'extremumInt8', because: `Min or Max of ${type}` }
    if (quantiser && isAsymmetric(value.producer!, type))
      yield { fact: 'asymmetric', because: `${type} with a zero point` }
  }
  for (const n of graphs.flatMap((g) => [...g.allNodes()])) {
    if (isDequantize(n) && !n.input(0).constant)
      yield { fact: 'dequantised', because: 'DequantizeLinear of activations' }
    const bits = packedProduct(n)?.bits
    if (bits) yield { fact: bits === 4 ? 'products' : 'productsNot4', because: `${n.op} of ${bits} bits` }
  }
}

const isAsymmetric = (quantise: Node, type: string): boolean =>
  type.startsWith('u') || Array.from(quantise.inputs[2]?.constant?.toNumbers() ?? []).some((z) => z !== 0)

type Typed = { readonly value: Value; readonly type: keyof typeof elementTypes }

/** Values whose element type is known without running anything: tensors, declared ones, and what a quantiser makes. */
function* typesOf(graphs: readonly Graph[]): Generator<Typed> {
  for (const graph of graphs)
    for (const value of graph.values()) {
      const zero = value.producer && isQuantize(value.producer) ? value.producer.inputs[2]?.stored?.type : undefined
      const type = value.stored?.type ?? zero ?? value.type?.elem
      if (type) yield { value, type }
    }
}
