/** What a model gives for all of the data, one after the other. */
import type { Model } from '../../src/graph/model.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import type { CalibrationData } from '../../src/samples/calibration-data.ts'

/** Its first output, without the engine's optimisations. */
export async function outputs(model: Model, data: CalibrationData): Promise<Float32Array> {
  const session = await ortExecutor().load(model, { threads: 1, optimization: 'disabled' })
  const out: number[] = []
  for await (const feeds of data.batches())
    for (const y of Object.values(await session.run(feeds))[0]!.toFloat32()) out.push(y)
  await session.dispose()
  return Float32Array.from(out)
}
