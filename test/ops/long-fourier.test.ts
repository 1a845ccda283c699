/**
 * The DFT of many points as a training step writes it, against the definition in double precision: lengths of small factors,
 * of large ones and primes; real and complex lines, one-sided, inverse, filled up and cut off, along any axis.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rng } from '../../src/base/rng.ts'
import { Graph } from '../../src/graph/graph.ts'
import { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { elementCount } from '../../src/graph/types.ts'
import { WORKING_OPSET } from '../../src/ops/support/define-op.ts'
import { lowerCostly } from '../../src/passes/lower-costly.ts'
import { inferTypes } from '../../src/runtime/isolated/infer-types.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'

interface Case {
  readonly dims: readonly number[]
  readonly axis: number
  /** Points, where they are not those of the axis. */
  readonly length?: number
  readonly inverse?: boolean
  readonly onesided?: boolean
  readonly elem?: 'float32' | 'float64'
}

const sum = (values: Float64Array): number => values.reduce((s, v) => s + v, 0)

/** Bin or sample k of a line of complex points. */
function definition(re: Float64Array, im: Float64Array, n: number, k: number, inverse: boolean): [number, number] {
  let [a, b] = [0, 0]
  for (let j = 0; j < Math.min(n, re.length); j++) {
    const t = (2 * Math.PI * ((j * k) % n)) / n
    const [c, s] = [Math.cos(t), inverse ? -Math.sin(t) : Math.sin(t)]
    a += re[j]! * c + im[j]! * s
    b += im[j]! * c - re[j]! * s
  }
  return inverse ? [a / n, b / n] : [a, b]
}

async function check(c: Case, seed: number): Promise<void> {
  const { dims, axis, length, inverse = false, onesided = false, elem = 'float32' } = c
  const rng = new Rng(seed, 6)
  const data = Float64Array.from({ length: elementCount(dims) }, () => Math.fround(rng.uniform(-1, 1)))
  const model = new Model(new Graph('dft'), WORKING_OPSET)
  const { graph } = model
  const x = graph.addInput('x', { elem, dims })
  const given = [length, axis].map((v) =>
    v === undefined ? null : graph.addInitializer('c', Tensor.scalar(v, 'int64')),
  )
  const attributes = { inverse: Number(inverse), onesided: Number(onesided) }
  graph.addOutput(graph.append().op('DFT', [x, ...given], attributes, { name: 'y' }))
  await inferTypes(model)
  const declared = graph.outputs[0]!.dims
  assert.equal(lowerCostly(graph), 1, JSON.stringify(c))
  assert.ok([...graph.nodes()].every((n) => n.op !== 'DFT'))
  const session = await ortExecutor().load(model)
  const y = (await session.run({ x: Tensor.from(elem, dims, data) })).y!
  await session.dispose()
  assert.deepEqual(y.dims, declared, JSON.stringify(c))
  const out = y.toNumbers()
  const n = length ?? (inverse && onesided ? 2 * (dims[axis]! - 1) : dims[axis]!)
  const parts = dims.at(-1)!
  const [before, after] = [elementCount(dims.slice(0, axis)), elementCount(dims.slice(axis + 1, -1))]
  const given1 = dims[axis]!
  const results = y.dims[axis]!
  const outParts = y.dims.at(-1)!
  for (let round = 0; round < 24; round++) {
    const [o, i] = [rng.integer(before), rng.integer(after)]
    const at = (j: number, part: number): number => data[((o * given1 + j) * after + i) * parts + part]!
    const half = inverse && onesided
    const points = half ? n : Math.min(n, given1)
    const [re, im] = [new Float64Array(points), new Float64Array(points)]
    for (let j = 0; j < Math.min(given1, half ? Math.floor(n / 2) + 1 : n); j++) {
      re[j] = at(j, 0)
      im[j] = parts === 2 ? at(j, 1) : 0
    }
    // the other side, of conjugates; what has none of its own is real
    if (half)
      for (let j = Math.floor(n / 2) + 1; j < n; j++) {
        re[j] = re[n - j]!
        im[j] = -im[n - j]!
      }
    if (half) for (const j of n % 2 === 0 ? [0, n / 2] : [0]) im[j] = 0
    const k = round === 0 ? 0 : round === 1 ? results - 1 : rng.integer(results)
    const want = definition(re, im, n, k, inverse)
    const scale = Math.sqrt(sum(re.map((v, j) => v * v + im[j]! * im[j]!))) / (inverse ? n : 1)
    for (let part = 0; part < outParts; part++) {
      const got = out[((o * results + k) * after + i) * outParts + part]!
      const error = Math.abs(Number(got) - want[part]!) / scale
      const tolerance = elem === 'float32' ? 4e-6 : 1e-12
      assert.ok(error < tolerance, `${JSON.stringify(c)}, ${k}: ${got}, not ${want[part]} (${error})`)
    }
  }
}

// 379, 509, 521 and 2857 are primes that no matrix takes, 19999 = 7 * 2857, 1010 has one that a matrix takes
for (const n of [379, 509, 1010, 521, 600, 1000, 2310, 2857, 3 * 521, 4999, 19999])
  test(`${n} points`, async () => {
    await check({ dims: [1, n, 2], axis: 1 }, n)
    await check({ dims: [2, n, 1], axis: 1, onesided: n >= 600 }, n + 1)
    await check({ dims: [1, n, 2], axis: 1, inverse: true }, n + 2)
    await check({ dims: [2, Math.floor(n / 2) + 1, 2], axis: 1, length: n, inverse: true, onesided: true }, n + 3)
    await check({ dims: [1, n, 2], axis: 1, elem: 'float64' }, n + 4)
  })

test('other axes, filled up, cut off', async () => {
  for (const inverse of [false, true]) {
    await check({ dims: [2, 1500, 3, 2], axis: 1, inverse }, 1)
    await check({ dims: [1500, 2, 1], axis: 0, inverse }, 2)
    await check({ dims: [3, 1000, 2], axis: 1, length: 1777, inverse }, 3)
    await check({ dims: [3, 1777, 2], axis: 1, length: 1000, inverse }, 4)
  }
  await check({ dims: [3, 1777, 1], axis: 1, length: 1000, onesided: true }, 5)
  await check({ dims: [2, 400, 2], axis: 1, length: 1001, inverse: true, onesided: true }, 6)
  await check({ dims: [2, 900, 2], axis: 1, length: 1000, inverse: true, onesided: true }, 7)
})

test('tables that are made when the graph runs: 140,000 points of small factors, and a prime number of them', async () => {
  await check({ dims: [1, 140_000, 1], axis: 1, onesided: true }, 8)
  await check({ dims: [8, 70_001, 2], axis: 1 }, 9)
  await check({ dims: [8, 70_001, 2], axis: 1, inverse: true }, 10)
})

test('many lines, a few at a time', async () => {
  await check({ dims: [7, 100_000, 2], axis: 1 }, 12)
  await check({ dims: [90_000, 7, 1], axis: 0, inverse: true }, 13)
  await check({ dims: [9, 70_001, 1], axis: 1, onesided: true }, 14)
  await check({ dims: [300, 1042, 2], axis: 1 }, 15)
})
