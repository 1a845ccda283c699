/**
 * Chooses how each weight is stored: whichever form takes the fewest bytes.
 *
 *   packed   N/8 + nnz*b/8      one mask bit per element, b bits per non-zero
 *   int4     N/2                a dense INT4 initializer (b <= 4)
 *   planes   N*b/8              dense, bit by bit, for 2 and 3 bits
 *   int8     N                  a dense INT8 initializer
 *   raw      4N                 float32
 *
 * and, for all but raw, the scales. Constants of nodes and names were measured on encoded files. Packed forms and
 * planes of the same width share one decode (a group); a group whose members save less than the decode takes is
 * dissolved.
 */
import type { Weight } from './weights.ts'

export type StorageKind = 'packed' | 'int4' | 'planes' | 'int8' | 'raw'

/** Bytes of a group's own nodes and constants. */
const GROUP = 420
/** A member: Split output and size, Reshape and its share of the shape constants, Mul. */
const MEMBER = 70
/** A dense tensor: initializer header, Cast, Mul. */
const DENSE = 70
/** Elements of a group: the decode holds about 20 bytes per element while it is folded. */
const GROUP_ELEMENTS = 2 ** 24

export interface Choice {
  readonly weight: Weight
  readonly kind: StorageKind
  /** Estimated bytes of the values alone, without scales, nodes and names. */
  readonly payload: number
}

/** Members of one decode: all packed, or all planes, of the same width. */
export interface StorageGroup {
  readonly packed: boolean
  /** 1..8, or 32 for floats. */
  readonly bits: number
  readonly members: readonly Weight[]
}

export interface StoragePlan {
  readonly choices: readonly Choice[]
  readonly groups: readonly StorageGroup[]
}

export interface StorageForms {
  /** false leaves the packed forms out (plain dense files). */
  readonly sparse?: boolean
  /** Leaves out what holds no integers. */
  readonly integers?: boolean
}

export function planStorage(weights: readonly Weight[], forms: StorageForms = {}): StoragePlan {
  const best = weights.map((w) => ({ weight: w, options: optionsOf(w, forms) }))
  const choices = best.map(({ weight, options }) => ({ weight, options, choice: options[0]! }))
  for (const key of new Set(choices.map((c) => groupKey(c.choice, c.weight)))) {
    if (!key) continue
    const members = choices.filter((c) => groupKey(c.choice, c.weight) === key)
    const dense = (c: (typeof members)[number]): Option => c.options.find((o) => !isGrouped(o.kind))!
    const saved = members.reduce((sum, c) => sum + dense(c).total - c.choice.total, 0)
    if (saved < GROUP) for (const c of members) c.choice = dense(c)
  }
  const groups = new Map<string, Weight[]>()
  for (const { choice, weight } of choices) {
    const key = groupKey(choice, weight)
    if (!key) continue
    let chunk = 0
    const filled = (k: string): number => (groups.get(k) ?? []).reduce((n, w) => n + w.size, 0)
    while (filled(`${key}/${chunk}`) > 0 && filled(`${key}/${chunk}`) + weight.size > GROUP_ELEMENTS) chunk++
    const name = `${key}/${chunk}`
    groups.set(name, [...(groups.get(name) ?? []), weight])
  }
  return {
    choices: choices.map(({ weight, choice }) => ({ weight, kind: choice.kind, payload: choice.payload })),
    groups: [...groups].map(([key, members]) => ({
      packed: key.startsWith('packed'),
      bits: Number(key.split(/[/:]/)[1]),
      members,
    })),
  }
}

interface Option {
  readonly kind: StorageKind
  readonly payload: number
  readonly total: number
}

const isGrouped = (kind: StorageKind): boolean => kind === 'packed' || kind === 'planes'

const groupKey = (o: Option, w: Weight): string | null => (isGrouped(o.kind) ? `${o.kind}:${w.bits}` : null)

/** Cheapest first. */
function optionsOf(w: Weight, { sparse = true, integers = false }: StorageForms): Option[] {
  const n = w.size
  const { bits } = w
  const options: Option[] = integers ? [] : [{ kind: 'raw', payload: 4 * n, total: 4 * n }]
  const add = (kind: StorageKind, payload: number, overhead: number): void => {
    options.push({ kind, payload, total: payload + overhead })
  }
  if (sparse) add('packed', Math.ceil(n / 8) + Math.ceil((w.nonZeros * bits) / 8), MEMBER)
  if (w.ints && bits <= 4) add('int4', Math.ceil(n / 2), DENSE)
  if (sparse && bits < 4) add('planes', Math.ceil((n * bits) / 8), MEMBER)
  if (w.ints) add('int8', n, DENSE)
  return options.sort((a, b) => a.total - b.total)
}
