/** Which operators of a model's training step an executor leaves to the CPU. */
import type { Model } from '../../graph/model.ts'
import type { Executor, Fallback } from '../../runtime/executor.ts'
import { optimizerDefaults } from './optimizers.ts'
import { buildStep } from './step-graph.ts'

export async function stepFallbacks(model: Model, batch: number, executor: Executor): Promise<readonly Fallback[]> {
  const loss = 'ce' as const
  const options = {
    ...{ batch, loss, alpha: 1, temperature: 1, tiles: 1, batchStatistics: true, learnScales: false },
    optimizer: optimizerDefaults,
  }
  const step = await buildStep(model, options, () => false)
  const session = await executor.load(step.model, { step: true })
  await session.dispose()
  return session.fallbacks
}
