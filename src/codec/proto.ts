/**
 * Protobuf messages by the table of proto-schema.ts. Fields that the table lacks, or that have another wire type there,
 * are kept as their bytes and written after the others; a singular message field that occurs twice is merged, as the
 * format requires. Fields are written in the order of their numbers, so that equal messages are equal bytes.
 */
import type { Bytes } from '../base/bytes.ts'
import type { DataFile } from '../base/data-file.ts'
import { fieldsOf, type MessageName, messageNames, type Proto, type ScalarName } from './proto-schema.ts'
import { checkDepth, malformed, WireInput } from './wire-input.ts'
import { joined, WireOutput } from './wire-output.ts'

type Json = Record<string, unknown> & { $unknowns?: Uint8Array[] }

interface Plan {
  readonly key: string
  readonly number: number
  readonly many: boolean
  readonly scalar: ScalarName | undefined
  /** Of a message: what is in it. */
  readonly message: MessagePlan | undefined
  readonly wire: 0 | 2 | 5
}

interface MessagePlan {
  readonly byNumber: readonly (Plan | undefined)[]
  /** Last field first, as they are written. */
  readonly descending: readonly Plan[]
}

const wireOf: Readonly<Record<ScalarName, 0 | 2 | 5>> = { string: 2, bytes: 2, data: 2, int32: 0, int64: 0, float: 5 }

const plans = new Map<MessageName, { byNumber: Plan[]; descending: Plan[] }>(
  messageNames.map((name) => [name, { byNumber: [], descending: [] }]),
)
for (const [name, plan] of plans)
  for (const [key, [number, type, many]] of Object.entries(fieldsOf(name))) {
    const message = plans.get(type as MessageName)
    const scalar = message ? undefined : (type as ScalarName)
    const field: Plan = { key, number, many: many === '*', scalar, message, wire: scalar ? wireOf[scalar] : 2 }
    plan.byNumber[number] = field
    plan.descending.unshift(field)
  }
for (const { descending } of plans.values()) descending.sort((a, b) => b.number - a.number)

/** Reads a message. A model error if the bytes are not one. Large data of a file is left in it. */
export function decodeProto<M extends MessageName>(name: M, source: Uint8Array | DataFile): Proto<M> {
  const input = new WireInput(source)
  return decode(input, plans.get(name)!, input.length, {}, 0) as Proto<M>
}

function decode(input: WireInput, plan: MessagePlan, end: number, out: Json, depth: number): Json {
  checkDepth(depth)
  /** Unknown fields, as start, end and tag. */
  let unknown: [start: number, end: number, tag: number][] | undefined
  while (input.pos < end) {
    const start = input.pos
    const tag = input.uint32()
    if (tag >>> 3 === 0) throw malformed(`field number 0 at byte ${start}`)
    const field = plan.byNumber[tag >>> 3]
    if (field && (tag & 7) === field.wire) {
      decodeField(input, field, end, out, depth)
      continue
    }
    if (field?.many && (tag & 7) === 2 && field.wire !== 2) {
      decodePacked(input, field, end, out)
      continue
    }
    input.skip(tag, end, depth + 1)
    unknown ??= []
    const last = unknown.at(-1)
    if (last && last[1] === start && last[2] === tag) last[1] = input.pos
    else unknown.push([start, input.pos, tag])
  }
  if (input.pos !== end) throw malformed(`a message ends at byte ${input.pos} instead of ${end}`)
  if (unknown) {
    out.$unknowns ??= []
    for (const [from, to] of unknown) out.$unknowns.push(input.range(from, to))
  }
  return out
}

function decodeField(input: WireInput, field: Plan, end: number, out: Json, depth: number): void {
  const { key, many, message } = field
  let value: unknown
  if (message) {
    const size = input.size(end)
    const before = many ? undefined : (out[key] as Json | undefined)
    value = decode(input, message, input.pos + size, before ?? {}, depth + 1)
  } else value = scalarOf(input, field.scalar!, end)
  if (!many) out[key] = value
  else if (out[key]) (out[key] as unknown[]).push(value)
  else out[key] = [value]
}

function scalarOf(input: WireInput, scalar: ScalarName, end: number): unknown {
  switch (scalar) {
    case 'string':
      return input.string(input.size(end))
    case 'bytes':
      return input.bytes(input.size(end))
    case 'data':
      return input.data(input.size(end))
    case 'int32':
      return input.uint32() | 0
    case 'int64':
      return input.int64()
    case 'float':
      if (input.pos + 4 > end) throw malformed(`a number at byte ${input.pos} extends beyond its message`)
      return input.float()
  }
}

function decodePacked(input: WireInput, field: Plan, end: number, out: Json): void {
  const size = input.size(end)
  const stop = input.pos + size
  out[field.key] ??= []
  const list = out[field.key] as unknown[]
  while (input.pos < stop) list.push(scalarOf(input, field.scalar!, stop))
  if (input.pos !== stop) throw malformed(`a list ends at byte ${input.pos} instead of ${stop}`)
}

/** A message's bytes in parts: large data stays where it is, in memory or in a file. */
export function encodeParts<M extends MessageName>(name: M, message: Proto<M>): Bytes[] {
  const output = new WireOutput()
  encode(output, plans.get(name)!, message as Json)
  return output.parts()
}

export const encodeProto = <M extends MessageName>(name: M, message: Proto<M>): Uint8Array =>
  joined(encodeParts(name, message))

function encode(output: WireOutput, plan: MessagePlan, message: Json): void {
  const unknown = message.$unknowns ?? []
  for (let i = unknown.length - 1; i >= 0; i--) output.bytes(unknown[i]!)
  for (const field of plan.descending) {
    const value = message[field.key]
    if (value === undefined) continue
    if (!field.many) encodeField(output, field, value)
    else {
      const list = value as readonly unknown[]
      for (let i = list.length - 1; i >= 0; i--) encodeField(output, field, list[i])
    }
  }
}

function encodeField(output: WireOutput, field: Plan, value: unknown): void {
  const end = output.length
  if (field.message) encode(output, field.message, value as Json)
  else if (field.scalar === 'string') output.string(value as string)
  else if (field.scalar === 'int64') output.int64(value as bigint)
  else if (field.scalar === 'int32') output.int64(BigInt(value as number))
  else if (field.scalar === 'float') output.float(value as number)
  else output.bytes(value as Bytes)
  if (field.wire === 2) output.varint(output.length - end)
  output.varint(field.number * 8 + field.wire)
}
