/** A walk measures the same as a run of the whole network from its inputs, whatever it keeps on its way. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { cloneModel } from '../../src/graph/clone.ts'
import type { Tensor } from '../../src/graph/tensor.ts'
import { type WeightLayer, weightLayers } from '../../src/layers/layers.ts'
import { runPass } from '../../src/passes/run-pass.ts'
import { floatReference } from '../../src/quant/bypass-quantisers.ts'
import { LayerWalk } from '../../src/quant/layer-walk.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { randomBatches } from '../passes/golden.ts'
import { randomGraph } from '../support/random-graph.ts'

const ops = ['Conv', 'ConvTranspose', 'Gemm', 'MatMul']
const exact = { optimization: 'disabled', threads: 1 } as const

test('inputs of layers on the way are those of the whole network, with the layers before changed', async () => {
  let steps = 0
  for (let seed = 500; seed < 510; seed++)
    for (const keptBytes of [2 ** 29, 3000, 0]) {
      const model = randomGraph(seed)
      const data = randomBatches(model, 3)
      await runPass(
        model,
        'quantize',
        { ops, weightBits: 5, activationBits: 8, calibration: 'max' },
        { calibration: data },
      )
      const reference = floatReference(model)
      const layers = weightLayers(model.graph).filter((l) => l.slot.data !== undefined && l.users.length === 1)
      const walk = new LayerWalk(model, data, [() => []], { reference, keptBytes })
      for (const layer of layers) {
        const seen: { here: Tensor; there: Tensor }[] = []
        let names = ['', '']
        const probe = (site: Parameters<ConstructorParameters<typeof LayerWalk>[2][number]>[0]) => {
          const b = site.graph.append()
          const values = [site.here(layer.node.output), site.there(layer.node.output)!].map((v) =>
            b.op('Identity', [v.producer!.input(layer.slot.data!)]),
          )
          for (const v of values) site.graph.addOutput(v)
          names = values.map((v) => v.name)
          return values
        }
        await walk.step(layer.node, probe, ({ out }) => {
          seen.push({ here: out[names[0]!]!, there: out[names[1]!]! })
        })
        const [here, there] = [await inputsOf(model, layer), await inputsOf(reference.model, twin(layer))]
        assert.equal(seen.length, here.length)
        for (const [i, s] of seen.entries()) {
          assertNear(s.here, here[i]!, `seed ${seed}, ${layer.name}, kept ${keptBytes}`)
          assertNear(s.there, there[i]!, `seed ${seed}, ${layer.name} in float, kept ${keptBytes}`)
        }
        steps++
        // what lies behind is to see this
        if (!layer.tensor.type.includes('float') || layer.weight.producer) continue
        layer.weight.setConstant(layer.tensor.mapFloats(layer.tensor.type, (w) => w.set(w.map((x) => -x))))
      }

      function twin(layer: WeightLayer): WeightLayer {
        const output = reference.values.get(layer.node.output)!
        return weightLayers(reference.model.graph).find((l) => l.users.includes(output.producer!))!
      }

      async function inputsOf(of: typeof model, layer: WeightLayer): Promise<Tensor[]> {
        const map = new Map()
        const copy = cloneModel(of, map)
        for (const v of [...copy.graph.outputs]) copy.graph.removeOutput(v)
        const value = copy.graph.append().op('Identity', [map.get(layer.node.input(layer.slot.data!))!])
        copy.graph.addOutput(value)
        const session = await ortExecutor().load(copy, exact)
        const out: Tensor[] = []
        for await (const feeds of data.batches()) out.push((await session.run(feeds))[value.name]!)
        await session.dispose()
        return out
      }
    }
  assert.ok(steps > 40, `${steps} steps`)
})

/** But for single values that rounding moves by a step. */
function assertNear(a: Tensor, b: Tensor, what: string): void {
  assert.equal(a.dims.join(), b.dims.join(), what)
  const [x, y] = [a.toFloat32(), b.toFloat32()]
  const largest = y.reduce((m, v) => Math.max(m, Math.abs(v)), 1e-6)
  const off = x.filter((v, i) => Math.abs(v - y[i]!) > 1e-4 * largest).length
  assert.ok(off <= 0.02 * x.length, `${what}: ${off} of ${x.length} differ`)
}
