/**
 * Points of at most so many bytes, made in one of two ways: the same share of zeros for all layers, or widths and zeros split among
 * them. What a file takes is foreseen from weights that are rounded to the nearest, and put right by the files that were made.
 */
import { firstLayers } from '../layers/edge-layers.ts'
import type { Effort } from '../ptq/ptq-options.ts'
import type { Candidate } from './candidate.ts'
import { uniform } from './ladder.ts'
import { everyLayer, type LayerTable } from './layer-costs.ts'
import type { Forms, LayerForm } from './layer-forms.ts'
import { leastShare } from './least-share.ts'
import type { Point } from './point.ts'
import type { Run } from './run.ts'
import { bytesAt, formsFor, mixed, weightBytes } from './split.ts'

const EIGHT: LayerForm = { bits: 8, sparsity: 0 }
const FOUR: LayerForm = { bits: 4, sparsity: 0 }
/** Of all weights, beyond which accuracy goes. */
const MOST_SPARSITY = 0.95
/** Splits until the foreseen bytes are what they may be: what layers cost is known to within their nodes, names and codes. */
const FITTINGS = 8
/** They end where no more of the bytes are left, as a share. */
const FULL = 0.004
/** A file is near enough where it leaves no more than this share of the bytes. */
const NEAR = 0.03

interface Planned {
  readonly candidate: Candidate
  /** Foreseen. */
  readonly bytes: number
}

export class ForSize {
  readonly #plan: (most: number) => Promise<Planned | null>
  readonly #make: (candidate: Candidate) => Promise<Point | null>
  /** What made files take beyond what was foreseen. */
  #rest = 0
  readonly #tried = new Set<string>()

  constructor(plan: (most: number) => Promise<Planned | null>, make: (candidate: Candidate) => Promise<Point | null>) {
    this.#plan = plan
    this.#make = make
  }

  /** The largest file that fits, of up to `attempts`; where none does the smallest. null where nothing new can be made. */
  async atMost(most: number, attempts: number): Promise<Point | null> {
    let best: Point | null = null
    const fits = (p: Point): boolean => p.bytes <= most
    for (let i = 0; i < attempts; i++) {
      const planned = await this.#plan(most - this.#rest)
      const key = JSON.stringify(planned?.candidate.options)
      if (!planned || this.#tried.has(key)) break
      this.#tried.add(key)
      const made = await this.#make(planned.candidate)
      if (!made) break
      this.#rest = made.bytes - planned.bytes
      const isBetter = !best || (fits(made) ? !fits(best) || made.bytes > best.bytes : made.bytes < best.bytes)
      if (isBetter) best = made
      if (fits(made) && most - made.bytes <= NEAR * most) break
    }
    return best
  }
}

/** Widths of every layer, for a share of zeros: 4 bits, and 8 for the first. */
function four(run: Run): Forms {
  const { all, chosen } = everyLayer(run.float)
  const first = firstLayers(all)
  return Object.fromEntries(chosen.map((l) => [l.name, first.has(l) ? EIGHT : FOUR]))
}

/** As many zeros at 4 bits, in all layers together, as a file takes. `base` is a file without zeros. */
export async function sameForAll(
  run: Run,
  base: Point,
  effort: Effort | undefined,
): Promise<(most: number) => Promise<Planned | null>> {
  const forms = four(run)
  const whole = base.name.startsWith('w4a8')
    ? forms
    : Object.fromEntries(Object.keys(forms).map((name) => [name, EIGHT]))
  const rest = base.bytes - (await bytesAt(run, whole))
  const sizes = new Map<number, number>()
  const sizeAt = async (sparsity: number): Promise<number> => {
    const bytes = sizes.get(sparsity) ?? (await bytesAt(run, forms, sparsity)) + rest
    sizes.set(sparsity, bytes)
    return bytes
  }
  return async (most) => {
    const sparsity = await leastShare(MOST_SPARSITY, async (share) => (await sizeAt(share)) <= most)
    if (sparsity === null) return null
    return { candidate: uniform(4, 8, { effort, sparsity }), bytes: await sizeAt(sparsity) }
  }
}

/** The least damage by the knapsack. `base` has 8 bits everywhere; `nextName` names a candidate. */
export async function splitAmong(
  run: Run,
  { layers, forms }: { readonly layers: readonly LayerTable[]; readonly forms: readonly LayerForm[] },
  base: Point,
  { effort, nextName }: { readonly effort: Effort | undefined; nextName(): string },
): Promise<(most: number) => Promise<Planned | null>> {
  const whole = Object.fromEntries(layers.map((l) => [l.name, EIGHT]))
  // what quantising inputs adds to a file of rounded weights
  const rest = base.bytes - (await bytesAt(run, whole))
  return async (most) => {
    let budget = most - (base.bytes - weightBytes(layers, EIGHT))
    let best: { readonly forms: Forms; readonly bytes: number } | null = null
    for (let i = 0; i < FITTINGS; i++) {
      const own = formsFor(layers, forms, Math.max(0, budget))
      if (!own) break
      const bytes = (await bytesAt(run, own)) + rest
      if (bytes <= most && (best === null || bytes > best.bytes)) best = { forms: own, bytes }
      // codes take less than was thought, nodes and names more
      if (bytes <= most && most - bytes <= FULL * most) break
      budget += most - bytes
    }
    return best && { candidate: mixed(nextName(), best.forms, effort), bytes: best.bytes }
  }
}
