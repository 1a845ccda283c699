/** Reads attributes that are numbers, strings, or lists of those in square brackets. */
import type { Attribute } from '../graph/attribute.ts'
import type { Scanner } from './text-scanner.ts'
import { numberOf } from './text-tensor.ts'

const number = /-?(?:inf|nan|\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?![\w.])/y

/** null if something else is there, which is left unread. */
export function plainAttribute(s: Scanner): Attribute | null {
  const digits = s.match(number)
  if (digits !== undefined) return numeric(digits)
  if (s.sees('"')) return { kind: 'string', value: textAt(s) }
  return s.take('[') ? listAt(s) : null
}

function listAt(s: Scanner): Attribute {
  if (s.sees('"') || s.sees('bytes')) return { kind: 'strings', value: s.list(']', () => textAt(s)) }
  const items = s.list(']', () => numeric(s.need(number, 'a number')))
  const ints = items.flatMap((a) => (a.kind === 'int' ? [a.value] : []))
  if (ints.length === items.length) return { kind: 'ints', value: ints }
  return { kind: 'floats', value: items.map((a) => Number(a.value)) }
}

function textAt(s: Scanner): Uint8Array {
  if (s.keyword('bytes')) return s.bytes('bytes')
  return new TextEncoder().encode(s.needString('a text'))
}

function numeric(text: string): Extract<Attribute, { kind: 'int' | 'float' }> {
  if (/^-?\d+$/.test(text)) return { kind: 'int', value: BigInt(text) }
  return { kind: 'float', value: Math.fround(numberOf(text)) }
}
