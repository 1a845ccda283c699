/**
 * Chooses how each weight is stored, so that the file is small:
 *
 *   sparse   a mask and the non-zeros, in words of a prefix code where that is less than 1 and b bits
 *   dense    all values: two a byte (4 bits), or in words of a prefix code (up to 8 bits)
 *   int8     N, a dense INT8 initializer
 *   raw      4N, float32
 *
 * and, for all but raw, the scales. Constants of nodes and names were measured on encoded files. Members of the same form
 * and width share one decode (a group) and its code, so what a form costs depends on who else takes it: from each of a few
 * starts, weights move to the form that is cheapest beside the groups that there are, and groups that are not worth their
 * decode are dissolved; the cheapest outcome is taken. INT4 initializers are not among the forms: they save 5 % of a file
 * and few readers know them (`--format int4` has them, since its integers come after DequantizeLinear).
 */
import {
  countMask,
  type MaskCode,
  type MaskCounts,
  type Stored,
  storeMask,
  storeValues,
  valueSymbols,
} from './coding.ts'
import { countSymbols, type PrefixCode } from './prefix-code.ts'
import type { Weight } from './weights.ts'

export type StorageKind = 'sparse' | 'dense' | 'int4' | 'int8' | 'nbits' | 'float16' | 'fixed16' | 'fixed24' | 'raw'

/** Bytes of a group's own nodes and constants, without those of a code. */
const GROUP = { sparse: 420, dense: 300 } as const
type GroupedKind = keyof typeof GROUP
/** A member: Split output and size, Reshape and its share of the shape constants, Mul. */
const MEMBER = 70
/** A dense tensor: initializer header, Cast, Mul. */
const DENSE = 70
/** Elements of a group: the decode holds about 20 bytes per element while it is folded. */
const GROUP_ELEMENTS = 2 ** 24
/** How often weights look again at what the groups have become. */
const ROUNDS = 4

export interface Choice {
  readonly weight: Weight
  readonly kind: StorageKind
  /** Estimated bytes of the values alone, without scales, nodes and names. */
  readonly payload: number
  /** Why integers are stored as floats, where that is not for their size. */
  readonly reason?: string
}

/** Members of one decode, of the same form and width. */
export interface StorageGroup {
  readonly kind: GroupedKind
  /** 1..8, or 32 for floats. */
  readonly bits: number
  readonly members: readonly Weight[]
  /** Whether its values may be words of a prefix code. */
  readonly coded: boolean
}

export interface StoragePlan {
  readonly choices: readonly Choice[]
  readonly groups: readonly StorageGroup[]
}

/** Floats; `reason`: why integers are. */
export const rawChoice = (weight: Weight, reason: string): Choice => ({
  ...{ weight, kind: 'raw', payload: 4 * weight.size },
  ...(weight.ints && { reason }),
})

export interface StorageForms {
  /** false leaves masks and prefix codes out (plain dense files). */
  readonly sparse?: boolean
  /** Leaves out what holds no integers. */
  readonly integers?: boolean
}

export function planStorage(weights: readonly Weight[], forms: StorageForms = {}): StoragePlan {
  const coded = forms.sparse !== false
  const candidates = weights.map((w) => new Candidate(w, forms))
  const starts = candidates[0] ? [...new Set(candidates.flatMap((c) => c.forms.map((f) => f.kind)))] : []
  let best = new Plan([], [], coded)
  for (const kind of starts) {
    const plan = new Plan(
      candidates,
      candidates.map((c) => c.startingWith(kind)),
      coded,
    ).settled()
    if (best.candidates.length === 0 || plan.bytes < best.bytes) best = plan
  }
  return best.stored()
}

/** A form that a weight may take. */
interface Form {
  readonly kind: StorageKind
  /** Of the group's values. */
  readonly width: number
}

const isGrouped = (kind: StorageKind): kind is GroupedKind => Object.hasOwn(GROUP, kind)
const keyOf = ({ kind, width }: Form): string => `${kind}:${width}`

/** A weight with its possible forms and what they ask of its values, counted once. */
class Candidate {
  readonly weight: Weight
  readonly forms: readonly Form[]
  readonly #values: Int8Array | Float32Array
  readonly #counts = new Map<string, Uint32Array>()
  #mask: MaskCounts | null = null

  constructor(weight: Weight, { sparse = true, integers = false }: StorageForms) {
    const { bits, ints } = weight
    this.weight = weight
    this.#values = ints ?? weight.floats
    // its own width first; wider groups take it too
    const widths = ints ? Array.from({ length: 9 - bits }, (_, k) => bits + k) : [bits]
    const all: (Form | false)[] = [
      ...widths.map((width) => sparse && { kind: 'sparse' as const, width }),
      ...widths.map((width) => ints !== null && (sparse || width === 4) && { kind: 'dense' as const, width }),
      ints !== null && { kind: 'int8', width: 8 },
      !integers && { kind: 'raw', width: 32 },
    ]
    this.forms = all.filter((f) => f !== false)
  }

  startingWith(kind: StorageKind): Form {
    return this.forms.find((f) => f.kind === kind) ?? this.alone()
  }

  /** The cheapest form that shares nothing. */
  alone(): Form {
    return this.forms.find((f) => !isGrouped(f.kind))!
  }

  get mask(): MaskCounts {
    this.#mask ??= countMask(Uint8Array.from(this.#values, (v) => (v === 0 ? 0 : 1)))
    return this.#mask
  }

  /** How often each value occurs among those that the form stores. */
  counts({ kind, width }: Form): Uint32Array {
    const key = keyOf({ kind, width })
    const known = this.#counts.get(key)
    if (known) return known
    const counts = countSymbols(valueSymbols(this.#values, width), 2 ** width)
    if (kind === 'sparse') counts[2 ** (width - 1)] = 0
    this.#counts.set(key, counts)
    return counts
  }
}

/** What a group's members share: the codes of masks and values. */
class Shared {
  readonly form: Form
  readonly mask: Stored<MaskCode> | null
  readonly values: Stored<PrefixCode> | null

  constructor(form: Form, members: readonly Candidate[], coded: boolean) {
    this.form = form
    this.mask = form.kind === 'sparse' ? storeMask(sumMasks(members.map((m) => m.mask))) : null
    this.values = form.width === 32 || !coded ? null : storeValues(sum(members.map((m) => m.counts(form))), form.width)
  }

  /** Nodes and tables of the decode: what the group costs beside its members' payload. */
  overhead(members: readonly Candidate[]): number {
    const codes = (this.mask?.bytes ?? 0) + (this.values?.bytes ?? 0)
    const payload = members.reduce((n, m) => n + this.payload(m), 0)
    const known = this.values || this.mask ? Math.max(0, codes + this.#floats(members) - payload) : 0
    return GROUP[this.form.kind as GroupedKind] + known
  }

  payload(c: Candidate): number {
    const { width, kind } = this.form
    const stored = kind === 'sparse' ? c.weight.nonZeros : c.weight.size
    const mask = kind === 'sparse' ? this.#maskBytes(c) : 0
    if (width === 32) return mask + 4 * stored
    const code = this.values?.code
    if (!code) return mask + Math.ceil((stored * width) / 8)
    return mask + Math.ceil(lengthOf(c.counts(this.form), code) / 8)
  }

  #maskBytes(c: Candidate): number {
    const shared = this.mask!.code
    if (!shared) return Math.ceil(c.weight.size / 8)
    const counts = c.mask.patterns.find((p) => p.length === 2 ** shared.bits)!
    return Math.ceil(lengthOf(counts, shared.code) / 8)
  }

  #floats(members: readonly Candidate[]): number {
    return this.form.width === 32 ? members.reduce((n, m) => n + 4 * m.weight.nonZeros, 0) : 0
  }
}

/** Bits of symbols in a code; one that the code does not know counts as its longest. */
function lengthOf(counts: Uint32Array, { lengths, longest }: PrefixCode): number {
  let bits = 0
  for (const [s, n] of counts.entries()) if (n > 0) bits += n * (lengths[s]! || longest + 1)
  return bits
}

function sum(counts: readonly Uint32Array[]): Uint32Array {
  const total = new Uint32Array(counts[0]!.length)
  for (const c of counts) for (const [i, n] of c.entries()) total[i]! += n
  return total
}

const sumMasks = (masks: readonly MaskCounts[]): MaskCounts => ({
  elements: masks.reduce((n, m) => n + m.elements, 0),
  patterns: masks[0]!.patterns.map((_, k) => sum(masks.map((m) => m.patterns[k]!))),
})

/** One way to store all of them, and what it costs. */
class Plan {
  readonly candidates: readonly Candidate[]
  readonly forms: readonly Form[]
  readonly bytes: number
  readonly #coded: boolean
  readonly #groups: ReadonlyMap<string, Shared>
  readonly #members: ReadonlyMap<string, readonly Candidate[]>

  constructor(candidates: readonly Candidate[], forms: readonly Form[], coded: boolean) {
    this.candidates = candidates
    this.forms = forms
    this.#coded = coded
    const members = new Map<string, Candidate[]>()
    for (const [i, form] of forms.entries()) {
      if (!isGrouped(form.kind)) continue
      const key = keyOf(form)
      members.set(key, [...(members.get(key) ?? []), candidates[i]!])
    }
    this.#members = members
    this.#groups = new Map([...members].map(([key, m]) => [key, new Shared(formOf(key), m, coded)]))
    const overheads = [...members].map(([key, m]) => this.#groups.get(key)!.overhead(m))
    const own = forms.map((form, i) => this.#cost(candidates[i]!, form))
    this.bytes = [...overheads, ...own].reduce((a, b) => a + b, 0)
  }

  /** Of a weight beside the groups that there are; infinite in a group that there is not. */
  #cost(c: Candidate, form: Form): number {
    if (form.kind === 'raw') return 4 * c.weight.size
    if (form.kind === 'int8') return c.weight.size + DENSE
    const group = this.#groups.get(keyOf(form))
    return group ? group.payload(c) + MEMBER : Number.POSITIVE_INFINITY
  }

  /** Weights take their cheapest forms, and groups that are not worth it are given up, until neither gains. */
  settled(): Plan {
    let plan: Plan = this
    for (let round = 0; round < ROUNDS; round++) {
      const next = plan.#moved().#dissolved()
      if (next.bytes >= plan.bytes) break
      plan = next
    }
    return plan
  }

  #moved(): Plan {
    const forms = this.candidates.map((c) => cheapest(c.forms, (f) => this.#cost(c, f)))
    const plan = new Plan(this.candidates, forms, this.#coded)
    return plan.bytes < this.bytes ? plan : this
  }

  #dissolved(): Plan {
    let plan: Plan = this
    for (const key of this.#members.keys()) {
      const { candidates, forms } = plan
      const without = forms.map((form, i) => {
        if (keyOf(form) !== key) return form
        const others = candidates[i]!.forms.filter((f) => keyOf(f) !== key)
        return others.length === 0 ? form : cheapest(others, (f) => plan.#cost(candidates[i]!, f))
      })
      const next = new Plan(candidates, without, this.#coded)
      if (next.bytes < plan.bytes) plan = next
    }
    return plan
  }

  stored(): StoragePlan {
    const choices = this.candidates.map((c, i) => {
      const form = this.forms[i]!
      const group = this.#groups.get(keyOf(form))
      const payload = group ? group.payload(c) : form.kind === 'raw' ? 4 * c.weight.size : c.weight.size
      return { weight: c.weight, kind: form.kind, payload }
    })
    const groups = [...this.#members].flatMap(([key, members]) =>
      chunks(members.map((c) => c.weight)).map((chunk) => ({
        kind: formOf(key).kind as GroupedKind,
        ...{ bits: formOf(key).width, members: chunk, coded: this.#coded },
      })),
    )
    return { choices, groups }
  }
}

function formOf(key: string): Form {
  const [kind, width] = key.split(':')
  return { kind: kind as StorageKind, width: Number(width) }
}

/** The first of those with the least cost. */
function cheapest(forms: readonly Form[], cost: (f: Form) => number): Form {
  return forms.reduce((a, f) => (cost(f) < cost(a) ? f : a))
}

/** Weights side by side until a decode would hold too many elements. */
function chunks(weights: readonly Weight[]): Weight[][] {
  const out: Weight[][] = []
  const filled = (chunk: readonly Weight[]): number => chunk.reduce((n, w) => n + w.size, 0)
  for (const w of weights) {
    const open = out.find((chunk) => filled(chunk) + w.size <= GROUP_ELEMENTS)
    if (open) open.push(w)
    else out.push([w])
  }
  return out
}
