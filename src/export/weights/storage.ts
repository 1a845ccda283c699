/**
 * Chooses how each weight is stored: whichever form takes the fewest bytes.
 *
 *   packed   N/8 + nnz*b/8      one mask bit per element, b bits per non-zero
 *   nibbles  N/2                dense, two values per byte (b <= 4)
 *   planes   N*b/8              dense, bit by bit, for 2 and 3 bits
 *   int8     N                  a dense INT8 initializer
 *   raw      4N                 float32
 *
 * and, for all but raw, the scales. Constants of nodes and names were measured on encoded files. Members of the same form
 * and width share one decode (a group); a group whose members save less than the decode takes is dissolved, and they take
 * the next best form. INT4 initializers are not among the forms: they save 5 % of a file and few readers know them
 * (`--format int4` has them, since its integers come after DequantizeLinear).
 */
import type { Weight } from './weights.ts'

export type StorageKind = 'packed' | 'nibbles' | 'int4' | 'planes' | 'int8' | 'raw'

const grouped = ['packed', 'planes', 'nibbles'] as const
type GroupedKind = (typeof grouped)[number]

/** Bytes of a group's own nodes and constants. */
const GROUP: Readonly<Record<GroupedKind, number>> = { packed: 420, planes: 420, nibbles: 300 }
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

/** Members of one decode, of the same form and width. */
export interface StorageGroup {
  readonly kind: GroupedKind
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
  /** Leaves out forms that do not hold integers. */
  readonly integers?: boolean
}

export function planStorage(weights: readonly Weight[], forms: StorageForms = {}): StoragePlan {
  const choices = weights.map((weight) => {
    const options = optionsOf(weight, forms)
    return { weight, options, choice: options[0]! }
  })
  // a member of a dissolved group may go into one of the groups that are looked at after it
  for (const kind of grouped) {
    const own = choices.filter((c) => c.choice.kind === kind)
    for (const key of new Set(own.map((c) => groupKey(c.choice, c.weight)))) {
      const members = own.filter((c) => groupKey(c.choice, c.weight) === key)
      const next = (c: (typeof members)[number]): Option => c.options.find((o) => comesAfter(o.kind, kind))!
      const saved = members.reduce((sum, c) => sum + next(c).total - c.choice.total, 0)
      if (saved < GROUP[kind]) for (const c of members) c.choice = next(c)
    }
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
      kind: grouped.find((kind) => key.startsWith(kind))!,
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

const rankOf = (kind: StorageKind): number => (grouped as readonly StorageKind[]).indexOf(kind)
/** Whether a form is dense, or one whose groups are looked at after those of `kind`. */
const comesAfter = (form: StorageKind, kind: GroupedKind): boolean => rankOf(form) < 0 || rankOf(form) > rankOf(kind)

const groupKey = (o: Option, w: Weight): string | null =>
  rankOf(o.kind) < 0 ? null : `${o.kind}:${o.kind === 'nibbles' ? 4 : w.bits}`

/** Cheapest first. */
function optionsOf(w: Weight, { sparse = true, integers = false }: StorageForms): Option[] {
  const n = w.size
  const { bits } = w
  const options: Option[] = integers ? [] : [{ kind: 'raw', payload: 4 * n, total: 4 * n }]
  const add = (kind: StorageKind, payload: number, overhead: number): void => {
    options.push({ kind, payload, total: payload + overhead })
  }
  if (sparse) add('packed', Math.ceil(n / 8) + Math.ceil((w.nonZeros * bits) / 8), MEMBER)
  if (w.ints && bits <= 4) add('nibbles', Math.ceil(n / 2), MEMBER)
  if (sparse && bits < 4) add('planes', Math.ceil((n * bits) / 8), MEMBER)
  if (w.ints) add('int8', n, DENSE)
  return options.sort((a, b) => a.total - b.total)
}
