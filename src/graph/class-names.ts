/**
 * Names of the classes that a model's outputs stand for, in its metadata: a JSON array under `mnc.classes`, or what other
 * tools write under keys of their own.
 */

import { modelError } from '../base/errors.ts'
import { marks } from './marks.ts'
import type { Model } from './model.ts'

/** Keys under which other tools write them: Ultralytics, Hugging Face, and people by hand. */
const FOREIGN_KEYS = ['names', 'id2label', 'class_names', 'classes', 'labels']

/** The names in the model's metadata, in the order of its outputs; null where there are none. */
export function readClassOrder(model: Model): readonly string[] | null {
  const own = marks.classes.text(model)
  if (own !== undefined) {
    const names = namesIn(own)
    if (names) return names
    throw modelError('bad-classes', `the metadata entry ${marks.classes.key} is malformed: ${own.slice(0, 200)}`)
  }
  for (const key of FOREIGN_KEYS) {
    const names = namesIn(model.metadata.get(key) ?? '')
    if (names) return names
  }
  return null
}

export function writeClassOrder(model: Model, names: readonly string[]): void {
  marks.classes.set(model, names)
}

/** JSON, or a Python dictionary of numbers and quoted names. */
export function namesIn(text: string): readonly string[] | null {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    const pairs = text.matchAll(/(\d+)\s*:\s*(?:'([^']*)'|"([^"]*)")/g)
    json = Object.fromEntries(Array.from(pairs, (m) => [m[1]!, m[2] ?? m[3]!]))
  }
  if (Array.isArray(json)) return distinct(json)
  if (typeof json !== 'object' || json === null) return null
  const entries = Object.entries(json)
  const pairs = entries.map(([k, v]): [number, unknown] => (typeof v === 'number' ? [v, k] : [Number(k), v]))
  const names = new Map(pairs)
  return distinct(Array.from(pairs, (_, i) => names.get(i)))
}

/** null for an empty list, and for one with a gap, a repeated name or anything that is not a name. */
export function distinct(list: readonly unknown[]): readonly string[] | null {
  const names = list.filter((x): x is string => typeof x === 'string' && x !== '')
  return names.length > 0 && names.length === list.length && new Set(names).size === names.length ? names : null
}
