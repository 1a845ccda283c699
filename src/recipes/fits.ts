/**
 * Whether a recipe's data fit its networks, looked at before the first stage: what is wrong with the test split would be found when
 * the first stage has trained. Passes change neither inputs nor outputs, so that a stage takes what the network takes that it comes from.
 */
import { existsSync } from 'node:fs'
import { usageError } from '../base/errors.ts'
import { readModel } from '../codec/codec.ts'
import { ArraySet, type SampleSet } from '../data/array-set.ts'
import { bind } from '../data/bind.ts'
import { inModelOrder, loadClassOrder } from '../data/class-order.ts'
import type { TrainingData } from '../data/random-options.ts'
import { RANDOM } from '../data/random-options.ts'
import { writeClassOrder } from '../graph/class-names.ts'
import type { Model } from '../graph/model.ts'
import { buildNetwork } from '../models/spec.ts'
import { recordSizes } from '../samples/input-shapes.ts'
import type { Recipe, Stage } from './recipe.ts'

/** A usage error for the first that does not fit. */
export async function refuseMisfits(
  recipe: Recipe,
  stage: Stage,
  train: TrainingData | null,
  test: SampleSet | null,
): Promise<void> {
  const sets = [train, test].filter((set) => set !== null && set !== RANDOM) as SampleSet[]
  if (sets.length === 0) return
  const model = await rootOf(recipe, stage)
  if (!model) return
  recordSizes([model], stage.sizes)
  if (stage.reading.classes !== undefined) writeClassOrder(model, loadClassOrder(stage.reading.classes))
  for (const set of sets) {
    const own = inModelOrder(model, set)
    if (own instanceof ArraySet) bind(model, own)
  }
  const [first, second] = sets
  if (first instanceof ArraySet || second instanceof ArraySet || !first || !second) return
  if (first.channels !== second.channels)
    throw usageError(
      `${second.name} has images with ${second.channels} channel(s), and ${first.name} with ${first.channels}`,
      'a network takes one kind: both splits need a picture in colour, or none',
    )
}

/** The network that a stage comes from, with any weights; null where its file is not there. */
async function rootOf(recipe: Recipe, { source }: Stage): Promise<Model | null> {
  if (source.kind === 'build') return buildNetwork(source.spec, { seed: null })
  if (source.kind === 'stage') return rootOf(recipe, recipe.stages.find((s) => s.name === source.name)!)
  return existsSync(source.path) ? readModel(source.path) : null
}
