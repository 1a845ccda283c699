/**
 * Runs samples through a session as its model takes them (batch-plan.ts): all at once where any batch works, else in
 * groups of the one batch that does. The last group is padded by repeating its last sample, and the outputs of the padding are
 * dropped.
 */
import { modelError } from '../base/errors.ts'
import type { Tensor } from '../graph/tensor.ts'
import type { Session } from '../runtime/executor.ts'
import type { BatchPlan, Outputs } from './batch-plan.ts'
import { rowsOf, sliceSamples } from './layout.ts'

/** Inputs of one run. */
export interface Group {
  readonly feeds: Readonly<Record<string, Tensor>>
  /** Samples in it that count; those after fill it up. */
  readonly count: number
}

/** `count` samples in groups that run. A model error where the model has no batch to put several samples into. */
export function* groupsOf(
  plan: BatchPlan,
  feeds: Readonly<Record<string, Tensor>>,
  count: number,
): Generator<Group, void, undefined> {
  if (!plan.isFixed || plan.batch === count) {
    yield { feeds, count }
    return
  }
  const axesOf = (name: string): readonly number[] => plan.inputs.get(name)?.axes ?? []
  if (!Object.keys(feeds).some((name) => axesOf(name).length > 0))
    throw modelError('no-batch', `no input of the model has a batch axis that ${count} samples could be stacked along`)
  for (let at = 0; at < count; at += plan.batch) {
    const n = Math.min(plan.batch, count - at)
    const part = Object.entries(feeds).map(([name, t]) => [name, sliceSamples(t, axesOf(name), at, n, plan.batch)])
    yield { feeds: Object.fromEntries(part), count: n }
  }
}

/** Values of each sample, by output. */
export type SampleOutputs = Readonly<Record<string, readonly ArrayLike<number>[]>>

/** The outputs of `count` samples, in their order. */
export async function runSamples(
  session: Session,
  plan: BatchPlan,
  feeds: Readonly<Record<string, Tensor>>,
  count: number,
  fetch: readonly string[],
): Promise<SampleOutputs> {
  const rows: Record<string, ArrayLike<number>[]> = Object.fromEntries(fetch.map((name) => [name, []]))
  for (const group of groupsOf(plan, feeds, count)) {
    const out = await session.run(group.feeds, fetch)
    for (const name of fetch) rows[name]!.push(...samplesIn(plan, out, name, group.count))
  }
  return rows
}

function samplesIn(plan: BatchPlan, out: Outputs, name: string, count: number): readonly ArrayLike<number>[] {
  const n = plan.isFixed ? plan.batch : count
  return rowsOf(out[name]!, plan.outputs.get(name) ?? 'shared', n).slice(0, count)
}
