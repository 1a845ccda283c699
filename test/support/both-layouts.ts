/** A graph run as it is, and as a training step, which goes to the engine's blocked kernels. */
import assert from 'node:assert/strict'
import { Rng } from '../../src/base/rng.ts'
import type { Builder } from '../../src/graph/builder.ts'
import type { Value } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { inferTypes } from '../../src/runtime/isolated/infer-types.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'

/** A graph of inputs only, in float32. */
export function graphOf(inputs: Readonly<Record<string, readonly number[]>>) {
  const model = new Model()
  const given = Object.fromEntries(
    Object.entries(inputs).map(([name, dims]) => [name, model.graph.addInput(name, { elem: 'float32', dims })]),
  )
  return { model, given }
}

/** `build` makes the outputs of a graph whose inputs are named; both layouts must agree on them. */
export async function agree(
  inputs: Readonly<Record<string, readonly number[]>>,
  build: (b: Builder, v: Readonly<Record<string, Value>>) => Value[],
  tolerance = 1e-3,
): Promise<void> {
  const { model, given } = graphOf(inputs)
  const { graph } = model
  for (const v of build(graph.append(), given)) graph.addOutput(v)
  await inferTypes(model)
  await agreeModel(model, tolerance)
}

/** Both layouts must agree on all outputs, for normal noise. */
export async function agreeModel(model: Model, tolerance = 1e-3): Promise<void> {
  const rng = new Rng(4)
  const noise = (dims: readonly number[]): Tensor =>
    Tensor.float32(
      dims,
      Float32Array.from({ length: dims.reduce((p, d) => p * d, 1) }, () => rng.normal()),
    )
  const feeds = Object.fromEntries(model.graph.inputs.map((v) => [v.name, noise(v.dims)]))
  const [plain, blocked] = await Promise.all(
    [false, true].map(async (step) => (await ortExecutor().load(model, { step })).run(feeds)),
  )
  for (const [name, t] of Object.entries(plain!)) {
    const other = blocked![name]!.view('float32')
    t.view('float32').forEach((v, i) => {
      assert.ok(Math.abs(v - other[i]!) < tolerance * (1 + Math.abs(v)), `${name}[${i}]: ${v} and ${other[i]}`)
    })
  }
}
