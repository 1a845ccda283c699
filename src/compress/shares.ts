/**
 * Work of a run that can be done before it, in shares: the first candidate of each rung, and where bytes may be split among
 * the layers what each layer costs at each width. All of it lies in the work folder then, where the run finds it. Some of
 * it the run would not have needed: what it needs depends on what it finds.
 */
import { MncError } from '../base/errors.ts'
import { rangeOf, type Shard } from '../shards/shard.ts'
import { type Candidate, makeCandidate } from './candidate.ts'
import { ladderFor } from './ladder.ts'
import { type LayerTrial, layersOfShare, layerTrials, measureTrials } from './layer-costs.ts'
import { SMALL_FORMS, SPARSE_FORMS } from './layer-forms.ts'
import type { Run } from './run.ts'

type Item = { readonly candidate: Candidate } | { readonly trial: LayerTrial }

/** In the same order for all; candidates take longest, so that they lie far from each other. */
function itemsOf({ target, asked, o, float, widest }: Run): readonly Item[] {
  const firsts = ladderFor(target, asked, o.effort, widest).map(([first]) => first!)
  const splits = asked.goal ? asked.goal.kind === 'bytes' : target.aim === 'bytes'
  const trials = splits ? layerTrials(float, asked.goal ? SPARSE_FORMS : SMALL_FORMS) : []
  return firsts.flatMap((candidate, i): readonly Item[] => {
    const { from, to } = rangeOf({ index: i + 1, of: firsts.length }, trials.length)
    return [{ candidate }, ...trials.slice(from, to).map((trial) => ({ trial }))]
  })
}

/** Does a share; how many items that were. What cannot be made is left to the run, which says why. */
export async function doShare(
  run: Run,
  shard: Shard,
  onProgress: (done: number, total: number) => void,
): Promise<number> {
  const all = itemsOf(run)
  const { from, to } = rangeOf(shard, all.length)
  const items = all.slice(from, to)
  for (const [i, item] of items.entries()) {
    onProgress(i, items.length)
    if ('trial' in item) await measureTrials(run, [item.trial], layersOfShare(shard), () => {})
    else await makeCandidate(run, item.candidate, () => {}).catch(forgiven)
  }
  return items.length
}

function forgiven(error: unknown): void {
  if (error instanceof MncError && (error.blame === 'model' || error.blame === 'gate')) return
  throw error
}
