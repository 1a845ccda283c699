/**
 * Random inputs with which remove-channels examines a model. What holds at one size need not hold at another (a sum over
 * positions, a border that is padded only at some sizes), so dims that the file leaves open, except the batch, are tried
 * at two, and what is left of the model must run at another batch.
 */
import { MncError } from '../../base/errors.ts'
import type { Model } from '../../graph/model.ts'
import { type BatchPlan, batchPlan, dimsAt } from '../../samples/batch-plan.ts'
import { type Named, probe } from '../../samples/probe.ts'
import { randomFeeds } from '../../samples/random-feeds.ts'

/** Samples in one run, where any number works. */
const BATCH = 2

type Dims = Readonly<Record<string, readonly number[]>>

export interface ChannelSamples {
  /** Dims of the inputs in `seen[0]` and `check`. */
  readonly dims: Dims
  /** To find constant channels with: at one size, and at another where sizes are open. */
  readonly seen: readonly Named[]
  /** Whether all sizes that are open were varied. */
  readonly varied: boolean
  /** To check with. */
  readonly check: Named
  /** Of other sizes, another batch among them: what is left must run on them too. */
  readonly others: readonly Named[]
}

/** A model error where the model cannot be run on random inputs. */
export async function channelSamples(model: Model): Promise<ChannelSamples> {
  const plan = await batchPlan(model, BATCH)
  const dims = dimsAt(plan, plan.batch)
  const feeds = randomFeeds(model)
  const other = twiceAsLong(model, plan, dims)
  const resized = other && (await ifRuns(model, feeds(other, [2])))
  const next = plan.isFixed ? null : await ifRuns(model, feeds(dimsAt(plan, plan.batch + 1), [3]))
  return {
    dims,
    seen: [feeds(dims, [0]), ...(resized ? [resized] : [])],
    varied: !other || resized !== null,
    check: feeds(dims, [1]),
    others: [resized, next].filter((x) => x !== null),
  }
}

/** Dims twice as long where the file leaves them open and they are not the batch; null where there are none. */
function twiceAsLong(model: Model, plan: BatchPlan, dims: Dims): Dims | null {
  let changed = false
  const longer = Object.entries(dims).map(([name, own]) => {
    const declared = model.graph.find(name)?.type?.dims
    const axes = plan.inputs.get(name)?.axes ?? []
    const next = own.map((d, i) => {
      if (typeof declared?.[i] === 'number' || axes.includes(i)) return d
      changed = true
      return 2 * d
    })
    return [name, next] as const
  })
  return changed ? Object.fromEntries(longer) : null
}

async function ifRuns(model: Model, feeds: Named): Promise<Named | null> {
  try {
    await probe(model, [feeds])
    return feeds
  } catch (error) {
    if (error instanceof MncError) return null
    throw error
  }
}
