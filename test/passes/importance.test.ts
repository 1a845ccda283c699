/** What blocks' numbers count for in `reconstruct --loss fisher`, against differences of onnxruntime's outputs. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { cloneModel } from '../../src/graph/clone.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { importanceOf } from '../../src/passes/reconstruct/importance.ts'
import { trainable } from '../../src/passes/reconstruct/reconstruction.ts'
import { outputs } from '../support/outputs.ts'

const [BATCH, INNER] = [3, 5]

/** x -> h -> one number a sample, so that the signs do not matter. */
function net(seed: number): Model {
  const graph = new Graph('net')
  const b = graph.append()
  const rng = new Rng(seed)
  const x = graph.addInput('x', { elem: 'float32', dims: ['N', 4] })
  const matrix = (rows: number, columns: number) =>
    b.initializer(
      'w',
      Tensor.float32(
        [rows, columns],
        Float32Array.from({ length: rows * columns }, () => rng.normal()),
      ),
    )
  const h = b.op('Tanh', [b.op('MatMul', [x, matrix(4, INNER)])], {}, { name: 'h' })
  const y = b.op('MatMul', [b.op('Sigmoid', [b.op('Mul', [h, h])]), matrix(INNER, 1)])
  graph.addOutput(y)
  const model = new Model(graph)
  model.opsets.set('', 21)
  return model
}

for (const seed of [3, 4])
  test(`importance is the mean square of the outputs' derivatives, as differences give them (net ${seed})`, async () => {
    const model = net(seed)
    const rng = new Rng(seed, 1)
    const batches = Array.from({ length: 2 }, () => [
      Tensor.float32(
        [BATCH, 4],
        Float32Array.from({ length: BATCH * 4 }, () => rng.normal()),
      ),
    ])
    const exit = [...model.graph.nodes()].find((n) => n.is('Tanh'))!.output.name
    const found = (await importanceOf(trainable(model), [exit], ['x'], batches, 0)).get(exit)!
    // the network behind h, and h itself, as models of their own
    const front = cloneModel(model)
    for (const v of [...front.graph.outputs]) front.graph.removeOutput(v)
    front.graph.addOutput(front.graph.find(exit)!)
    const back = cloneModel(model)
    const given = back.graph.addInput('given', { elem: 'float32', dims: ['N', INNER] })
    back.graph.replaceUses(back.graph.find(exit)!, given)
    const run = (m: Model, name: string, t: Tensor) =>
      outputs(m, {
        async *batches() {
          yield { [name]: t, ...(name === 'given' && { x: batches[0]![0]! }) }
        },
      })
    const squares = new Float64Array(INNER)
    for (const [x] of batches) {
      const h = await run(front, 'x', x!)
      for (let i = 0; i < INNER; i++) {
        const moved = (d: number) =>
          Tensor.float32(
            [BATCH, INNER],
            h.map((v, k) => (k % INNER === i ? v + d : v)),
          )
        const [up, down] = [await run(back, 'given', moved(1e-2)), await run(back, 'given', moved(-1e-2))]
        for (let n = 0; n < BATCH; n++) squares[i]! += ((up[n]! - down[n]!) / 2e-2) ** 2
      }
    }
    const mean = squares.reduce((a, b) => a + b, 0) / INNER
    assert.equal(found.length, INNER)
    for (const [i, s] of squares.entries())
      assert.ok(Math.abs(found[i]! - s / mean) < 0.01, `${found[i]} against ${s / mean}`)
  })
