/** Memory of calibration does not grow with the set: 100,000 images take what 100 take. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Rng } from '../../src/base/rng.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { findPass, runPass } from '../../src/passes/run-pass.ts'
import type { CalibrationData } from '../../src/samples/calibration-data.ts'

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

const SIDE = 5
const BATCH = 250

function net(): Model {
  const rng = new Rng(1)
  const graph = new Graph('net')
  const x = graph.addInput('x', { elem: 'float32', dims: ['N', 1, SIDE, SIDE] })
  const weight = (dims: readonly number[]) =>
    graph.addInitializer(
      'w',
      Tensor.float32(
        dims,
        Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => rng.normal()),
      ),
    )
  const a = graph.append().op('Relu', [graph.append().op('Conv', [x, weight([4, 1, 3, 3])])])
  graph.addOutput(graph.append().op('Conv', [a, weight([2, 4, 3, 3])]))
  const model = new Model(graph)
  model.opsets.set('', 17)
  return model
}

/** Bytes of arrays that are held while the images come, at most, beyond those before the first. */
async function heldBytes(pass: string, options: Readonly<Record<string, unknown>>, images: number): Promise<number> {
  const model = net()
  const rng = new Rng(2)
  let [start, most, made] = [0, 0, 0]
  const measure = async (): Promise<number> => {
    // arrays of the engine are let go of in a later turn of the loop
    for (let turn = 0; turn < 3; turn++) {
      collectGarbage()
      await setImmediate()
    }
    return process.memoryUsage().arrayBuffers
  }
  const calibration: CalibrationData = {
    async *batches() {
      start ||= await measure()
      const batches = Math.ceil(images / BATCH)
      for (let i = 0; i < batches; i++) {
        const count = Math.min(BATCH, images)
        const values = Float32Array.from({ length: count * SIDE * SIDE }, () => rng.uniform(-1, 1))
        made += count
        yield { x: Tensor.float32([count, 1, SIDE, SIDE], values) }
        if (i % 40 === 39 || i === batches - 1) most = Math.max(most, (await measure()) - start)
      }
    },
  }
  assert.ok((await runPass(model, findPass(pass), options, { calibration })).changed)
  assert.ok(made >= images)
  return most
}

const quantize = { ops: ['Conv'], weightBits: 8, activationBits: 8, firstLayer: 'quantize' }

for (const calibration of ['mse', 'percentile'])
  test(`quantize --calibration ${calibration} holds as much for 100,000 images as for 100`, async () => {
    await heldBytes('quantize', { ...quantize, calibration }, 100)
    const few = await heldBytes('quantize', { ...quantize, calibration }, 100)
    const many = await heldBytes('quantize', { ...quantize, calibration }, 100_000)
    // all images would be 10 MB, and what the layers give more
    assert.ok(many < few + 1e6, `${few} and ${many} bytes`)
  })
