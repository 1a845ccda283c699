/** What `mnc ptq` makes at 8 bits, exported for integer kernels, is right on the samples that the graph is right on. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { checkModels } from '../../src/check/check.ts'
import { checkBatches } from '../../src/check/check-data.ts'
import { exportFor } from '../../src/export/targets/export-for.ts'
import { ptq } from '../../src/ptq/ptq.ts'
import { images, pixels, run, tinyNet } from '../train/fixtures.ts'

for (const integer of [false, true])
  test(`the int8 file has the accuracy of the graph${integer ? ', with everything between layers in integers' : ''}`, async () => {
    // trained, so that it has an accuracy
    const { model: float } = await run(tinyNet(3), { epochs: 3, lr: 0.05 })
    float.metadata.set('mnc.preprocess', JSON.stringify(pixels))
    const options = { limit: 48, batch: 8, effort: 'fast', integer, workers: 0, threads: 1 } as const
    const { model: graph } = await ptq(float, { data: images(60), preprocess: pixels, options })
    const { model: file } = await exportFor(graph, { format: 'int8' })
    const data = images(300)
    const compare = (other: typeof float) =>
      checkModels(graph, other, { batches: checkBatches(graph, data, pixels, 50), threads: 1 })
    const { byOptimisation, reference, samples } = await compare(file)
    assert.equal(samples, 300)
    assert.ok(reference.top1! > 0.8, `${reference.top1} of the images are right`)
    for (const level of Object.values(byOptimisation)) {
      assert.ok(level.agreement >= 0.995, `${level.agreement} of the answers agree`)
      assert.ok(Math.abs(level.drop!) <= 0.005, `accuracy moves by ${level.drop}`)
    }
    const floats = (await compare(float)).byOptimisation.disabled
    assert.ok(floats.equal < 1, 'the float network is not what the file computes')
  })
