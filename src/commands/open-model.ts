/** Reads a model that a command runs or describes, and tells the user what to know about it. */
import type { Model } from '../graph/model.ts'
import type { CommandIO } from './io.ts'

export async function openModel(path: string, io: CommandIO): Promise<Model> {
  const { readModel } = await import('../codec/codec.ts')
  const { trainingWarning } = await import('../layers/training-mode.ts')
  const model = await readModel(path)
  const warning = trainingWarning(model)
  if (warning) io.log(`${path}: ${warning}`)
  return model
}
