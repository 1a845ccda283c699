/**
 * Real model files, damaged with a knowledge of their structure: a random field of a random message is dropped, doubled,
 * moved, renamed, given an extreme number or another message's content, and the lengths around it are corrected, so that
 * the damage gets past the wire format to the code behind it. A few mutants are damaged as plain bytes.
 */
import type { Rng } from '../../src/base/rng.ts'
import { nested } from '../graph/wire.ts'

interface Item {
  readonly field: number
  wire: number
  /** Kind of message in the sense of `nested`. */
  readonly message: string | undefined
  bytes: Buffer
  children: Item[] | undefined
}

function parse(bytes: Buffer, message: string): Item[] {
  const items: Item[] = []
  for (let at = 0; at < bytes.length; ) {
    const [tag, start] = varint(bytes, at)
    const field = Math.floor(tag / 8)
    const wire = tag % 8
    let [from, to] = [start, start]
    if (wire === 0) to = varint(bytes, start)[1]
    else if (wire === 1) to += 8
    else if (wire === 5) to += 4
    else {
      const [length, behind] = varint(bytes, start)
      from = behind
      to = behind + length
    }
    const inner = wire === 2 ? nested[message]?.[field] : undefined
    const content = bytes.subarray(from, to)
    items.push({ field, wire, message: inner, bytes: content, children: inner ? parse(content, inner) : undefined })
    at = to
  }
  return items
}

function varint(b: Buffer, at: number): [value: number, behind: number] {
  let value = 0
  for (let scale = 1; ; scale *= 128) {
    const byte = b[at++]!
    value += (byte & 127) * scale
    if (byte < 128) return [value, at]
  }
}

function varintBytes(value: bigint): Buffer {
  const out: number[] = []
  for (; value >= 128n; value >>= 7n) out.push(Number(value & 127n) | 128)
  return Buffer.from([...out, Number(value)])
}

function write(items: readonly Item[]): Buffer {
  return Buffer.concat(
    items.flatMap((i) => {
      const tag = varintBytes(BigInt(i.field * 8 + i.wire))
      const content = i.children ? write(i.children) : i.bytes
      return i.wire === 2 ? [tag, varintBytes(BigInt(content.length)), content] : [tag, content]
    }),
  )
}

const copy = (i: Item): Item => ({ ...i, children: i.children?.map(copy) })

interface Spot {
  readonly list: Item[]
  readonly at: number
}

/** A random field: down through messages, stopping at each level with some probability. */
function spotIn(list: Item[], rng: Rng): Spot | undefined {
  if (list.length === 0) return undefined
  const at = rng.integer(list.length)
  const { children } = list[at]!
  if (children && children.length > 0 && rng.uniform() < 0.85) return spotIn(children, rng)
  return { list, at }
}

function* strings(list: readonly Item[]): Generator<Item> {
  for (const i of list)
    if (i.children) yield* strings(i.children)
    else if (i.wire === 2 && i.bytes.length > 0 && i.bytes.length < 64) yield i
}

const extremes = [
  0n,
  1n,
  2n,
  127n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 1n,
  2n ** 40n,
  2n ** 63n - 1n,
  2n ** 64n - 1n,
]
const texts = [
  '',
  '..',
  '/etc/passwd',
  '../x',
  'a/../../x',
  'x\0y',
  '-1',
  '99999999999999999999',
  'ai.onnx',
  'If',
  'Loop',
]
const pick = <T>(list: readonly T[], rng: Rng): T => list[rng.integer(list.length)]!

type Mutation = (spot: Spot, rng: Rng, all: Item[], other: Item[]) => void

/** External data entries of a tensor, as an attacker would write them. */
function makeExternal(tensor: Item, rng: Rng): void {
  const entry = (key: string, value: string): Item => {
    const leaf = (field: number, text: string): Item => ({
      ...{ field, wire: 2, message: undefined, bytes: Buffer.from(text), children: undefined },
    })
    return { field: 13, wire: 2, message: 'Leaf', bytes: Buffer.alloc(0), children: [leaf(1, key), leaf(2, value)] }
  }
  const location = pick([...texts, 'model.onnx', '.', 'test_data_set_0/input_0.pb'], rng)
  const at = tensor.children!.filter((i) => i.field !== 9 && i.field !== 4)
  at.push(entry('location', location), entry('offset', pick(['0', '-8', '4', '1e3', '18446744073709551615'], rng)))
  at.push({ field: 14, wire: 0, message: undefined, bytes: Buffer.from([1]), children: undefined })
  tensor.children = at
}

export const mutations: Readonly<Record<string, Mutation>> = {
  drop: ({ list, at }) => void list.splice(at, 1),
  double: ({ list, at }) => void list.splice(at, 0, copy(list[at]!)),
  swap({ list, at }, rng) {
    const to = rng.integer(list.length)
    const [a, b] = [list[at]!, list[to]!]
    list[at] = b
    list[to] = a
  },
  number({ list, at }, rng) {
    const item = list[at]!
    if (item.wire === 0) item.bytes = varintBytes(pick(extremes, rng))
    else if (item.wire === 2 && !item.children)
      item.bytes = Buffer.concat([item.bytes, varintBytes(pick(extremes, rng))])
    else item.bytes = Buffer.from(item.bytes).reverse()
  },
  /** Names that meet: cycles, values made twice, inputs from nowhere. */
  rename({ list, at }, rng, all) {
    const names = [...strings(all)]
    const to = names.length > 0 && rng.uniform() < 0.7 ? pick(names, rng).bytes : Buffer.from(pick(texts, rng))
    const of = list[at]!.wire === 2 && !list[at]!.children ? list[at]! : pick(names.length > 0 ? names : list, rng)
    if (!of.children) of.bytes = to
  },
  shorten({ list, at }, rng) {
    const item = list[at]!
    if (!item.children && item.wire === 2) item.bytes = item.bytes.subarray(0, rng.integer(item.bytes.length + 1))
    else item.children?.splice(rng.integer(item.children.length + 1))
  },
  lengthen({ list, at }, rng) {
    const item = list[at]!
    if (!item.children && item.wire === 2)
      item.bytes = Buffer.concat([item.bytes, Buffer.alloc(1 + rng.integer(40), 0x41)])
    else for (let n = rng.integer(30); n > 0; n--) list.splice(at, 0, copy(item))
  },
  /** A field of another file in its place. */
  graft({ list, at }, rng, _all, other) {
    const from = spotIn(other, rng)
    if (from)
      list[at] = { ...copy(from.list[from.at]!), field: rng.uniform() < 0.5 ? list[at]!.field : pick(other, rng).field }
  },
  wireType({ list, at }, rng) {
    const item = list[at]!
    item.children = undefined
    item.wire = pick([0, 1, 2, 5], rng)
    const sizes: Record<number, number> = { 1: 8, 5: 4 }
    item.bytes =
      item.wire === 0 ? varintBytes(pick(extremes, rng)) : Buffer.alloc(sizes[item.wire] ?? rng.integer(20), 0x7f)
  },
  external(_spot, rng, all) {
    const tensors = [...tensorsOf(all)]
    if (tensors.length > 0) makeExternal(pick(tensors, rng), rng)
  },
  /** The file's own graph as the body of a node in it, a few or very many times. */
  nest(_spot, rng, all) {
    const graph = all.find((i) => i.message === 'Graph')
    if (!graph?.children) return
    const item = (field: number, message: string | undefined, children: Item[] | undefined, text = ''): Item => ({
      ...{ field, wire: 2, message, children, bytes: Buffer.from(text) },
    })
    const depth = pick([1, 2, 5, 32, 33, 34, 60, 120], rng)
    let inner = rng.uniform() < 0.5 ? graph.children.map(copy) : []
    for (let d = 0; d < depth; d++) {
      const type: Item = { ...item(20, undefined, undefined), wire: 0, bytes: Buffer.from([5]) }
      const attribute = item(5, 'Attribute', [item(1, undefined, undefined, 'body'), type, item(6, 'Graph', inner)])
      inner = [
        item(1, 'Node', [item(4, undefined, undefined, 'If'), item(2, undefined, undefined, `n${d}`), attribute]),
      ]
    }
    graph.children.unshift(...inner)
  },
}

function* tensorsOf(list: readonly Item[]): Generator<Item> {
  for (const i of list) {
    if (i.message === 'Tensor') yield i
    if (i.children) yield* tensorsOf(i.children)
  }
}

/** Lengths that do not fit, cut files, flipped bits. */
function damage(bytes: Buffer, rng: Rng): Buffer {
  const out = Buffer.from(bytes)
  if (rng.uniform() < 0.4) return out.subarray(0, rng.integer(out.length + 1))
  for (let n = 1 + rng.integer(4); n > 0 && out.length > 0; n--) out[rng.integer(out.length)] = rng.integer(256)
  return out
}

/** One to three mutations of `file`; `other` gives parts. Says what was done. */
export function mutant(file: Buffer, other: Buffer, rng: Rng): { bytes: Buffer; done: string } {
  if (rng.uniform() < 0.1) return { bytes: damage(file, rng), done: 'damage' }
  const all = parse(file, 'Model')
  const parts = parse(other, 'Model')
  const done: string[] = []
  const names = Object.keys(mutations)
  for (let n = 1 + rng.integer(3); n > 0; n--) {
    const spot = spotIn(all, rng)
    if (!spot) break
    const name = pick(names, rng)
    mutations[name]!(spot, rng, all, parts)
    done.push(name)
  }
  const bytes = write(all)
  return rng.uniform() < 0.05
    ? { bytes: damage(bytes, rng), done: `${done.join('+')}+damage` }
    : { bytes, done: done.join('+') }
}
