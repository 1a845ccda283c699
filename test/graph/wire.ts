/**
 * A reader of protobuf's wire format that shares nothing with the codec: it compares two messages field by field, so that
 * the same mistake in reading and writing cannot hide. Fields may be in any order; the entries of one field keep theirs.
 * Numbers may be packed or not.
 */

interface Field {
  readonly wire: number
  readonly bytes: Buffer
}

/** Field number to the message in it, written down from onnx.proto independently of the codec's table. */
export const nested: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  Model: { 7: 'Graph', 8: 'Leaf', 14: 'Leaf', 20: 'Training', 25: 'Function', 26: 'Leaf' },
  Graph: { 1: 'Node', 5: 'Tensor', 11: 'Info', 12: 'Info', 13: 'Info', 14: 'Annotation', 15: 'Sparse', 16: 'Leaf' },
  Node: { 5: 'Attribute', 9: 'Leaf' },
  Attribute: { 5: 'Tensor', 6: 'Graph', 10: 'Tensor', 11: 'Graph', 14: 'Type', 15: 'Type', 22: 'Sparse', 23: 'Sparse' },
  Tensor: { 13: 'Leaf', 16: 'Leaf' },
  Sparse: { 1: 'Tensor', 2: 'Tensor' },
  Info: { 2: 'Type', 4: 'Leaf' },
  Type: { 1: 'TypeTensor', 4: 'TypeSequence', 5: 'TypeMap', 8: 'TypeTensor', 9: 'TypeSequence' },
  TypeTensor: { 2: 'Shape' },
  TypeSequence: { 1: 'Type' },
  TypeMap: { 2: 'Type' },
  Shape: { 1: 'Leaf' },
  Annotation: { 2: 'Leaf' },
  Training: { 1: 'Graph', 2: 'Graph', 3: 'Leaf', 4: 'Leaf' },
  Function: { 7: 'Node', 9: 'Leaf', 11: 'Attribute', 12: 'Info', 14: 'Leaf' },
  Leaf: {},
}

/** Repeated numbers that may be packed: how wide one is, 0 for varints. */
const packable: Readonly<Record<string, Readonly<Record<number, 0 | 4 | 8>>>> = {
  Attribute: { 7: 4, 8: 0 },
  Tensor: { 1: 0, 4: 4, 5: 0, 7: 0, 10: 8, 11: 0 },
  Sparse: { 3: 0 },
}

function varintEnd(b: Buffer, at: number): number {
  while (b[at]! >= 128) at++
  return at + 1
}

function varint(b: Buffer, at: number): number {
  let value = 0
  for (let scale = 1; ; scale *= 128) {
    const byte = b[at++]!
    value += (byte & 127) * scale
    if (byte < 128) return value
  }
}

export function readFields(b: Buffer): Map<number, Field[]> {
  const fields = new Map<number, Field[]>()
  for (let at = 0; at < b.length; ) {
    const tag = varint(b, at)
    at = varintEnd(b, at)
    const wire = tag % 8
    let start = at
    if (wire === 0) at = varintEnd(b, at)
    else if (wire === 1) at += 8
    else if (wire === 5) at += 4
    else if (wire === 2) {
      start = varintEnd(b, at)
      at = start + varint(b, at)
    } else throw new Error(`wire type ${wire}`)
    const number = Math.floor(tag / 8)
    const list = fields.get(number) ?? []
    list.push({ wire, bytes: b.subarray(start, at) })
    fields.set(number, list)
  }
  return fields
}

function unpack(list: Field[], width: 0 | 4 | 8): Field[] {
  return list.flatMap((f) => {
    if (f.wire !== 2) return [f]
    const out: Field[] = []
    for (let at = 0; at < f.bytes.length; ) {
      const end = width === 0 ? varintEnd(f.bytes, at) : at + width
      out.push({ wire: width === 0 ? 0 : width === 4 ? 5 : 1, bytes: f.bytes.subarray(at, end) })
      at = end
    }
    return out
  })
}

/** Where two messages differ first, as a path; undefined where they say the same. */
export function firstDifference(a: Buffer, b: Buffer, message = 'Model', anyNodeOrder = false): string | undefined {
  const left = readFields(a)
  const right = readFields(b)
  for (const number of new Set([...left.keys(), ...right.keys()])) {
    const width = packable[message]?.[number]
    const of = (fields: Map<number, Field[]>): Field[] => {
      let list = fields.get(number) ?? []
      // Packed lists that are the same bytes need no taking apart.
      if (width !== undefined && left.get(number)?.length !== right.get(number)?.length) list = unpack(list, width)
      if (anyNodeOrder && message === 'Graph' && number === 1)
        list = [...list].sort((x, y) => Buffer.compare(x.bytes, y.bytes))
      return list
    }
    const [p, q] = [of(left), of(right)]
    if (p.length !== q.length) return `${message}.${number}: ${p.length} entries and ${q.length}`
    for (const [i, f] of p.entries()) {
      const g = q[i]!
      const inner = nested[message]?.[number]
      const where = `${message}.${number}[${i}]`
      if (f.wire !== g.wire) return `${where}: wire types ${f.wire} and ${g.wire}`
      if (inner && f.wire === 2) {
        const difference = firstDifference(f.bytes, g.bytes, inner, anyNodeOrder)
        if (difference) return `${where} > ${difference}`
      } else if (Buffer.compare(f.bytes, g.bytes) !== 0) return `${where}: other bytes`
    }
  }
  return undefined
}

/** Writes messages by hand: [field, value] pairs; numbers are varints, objects nested messages. */
export type Written = readonly (readonly [field: number, value: number | string | Uint8Array | Written])[]

export function write(fields: Written): Buffer {
  return Buffer.concat(
    fields.map(([field, value]) => {
      if (typeof value === 'number') return Buffer.concat([encodeVarint(field * 8), encodeVarint(value)])
      const bytes =
        typeof value === 'string' || value instanceof Uint8Array ? Buffer.from(value as string) : write(value)
      return Buffer.concat([encodeVarint(field * 8 + 2), encodeVarint(bytes.length), bytes])
    }),
  )
}

function encodeVarint(value: number): Buffer {
  const out: number[] = []
  for (; value >= 128; value = Math.floor(value / 128)) out.push((value % 128) + 128)
  return Buffer.from([...out, value])
}
