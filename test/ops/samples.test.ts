/**
 * Every operator definition, by its samples: the upgraded form computes what the original does; the gradient agrees
 * with finite differences (in float64 where onnxruntime has the kernels) and with TensorFlow.js; cost is a number; the
 * codec keeps the model.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MncError } from '../../src/base/errors.ts'
import { Rng } from '../../src/base/rng.ts'
import { decodeModel, encodeModel } from '../../src/codec/codec.ts'
import { cloneModel, type ValueMap } from '../../src/graph/clone.ts'
import type { Node, Value } from '../../src/graph/graph.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { elementCount, elementTypes } from '../../src/graph/types.ts'
import { verifyModel } from '../../src/graph/verify.ts'
import { findOp, ops, requireOp } from '../../src/ops/index.ts'
import { carriedOps } from '../../src/ops/support/carried.ts'
import { type OpDef, type OpSample, WORKING_OPSET } from '../../src/ops/support/define-op.ts'
import { allOperators, sinceVersions } from '../../src/ops/support/schema-versions.ts'
import { differentiate } from '../../src/passes/autodiff.ts'
import { decomposeNodes } from '../../src/passes/decompose-ops.ts'
import { inferTypes } from '../../src/runtime/isolated/infer-types.ts'
import { ortExecutor } from '../../src/runtime/ort/ort.ts'
import { buildSample, type Float, type SampleModel, upgradeSample } from './sample-model.ts'
import { oracle, runOracle, withoutOracle } from './tfjs-oracle.ts'

/** Opsets whose schema only says that the operator is gone. */
const withdrawnIn: Readonly<Record<string, number>> = { Upsample: 10, Scatter: 11 }

type Feeds = Readonly<Record<string, Tensor>>

const executor = ortExecutor()

/** Ops whose float64 kernel computes in float32 inside, so that only float32 differences mean anything. */
const singleInside: ReadonlySet<string> = new Set(['Shrink', 'GroupNormalization'])

async function run(model: Model, feeds: Feeds): Promise<Tensor[]> {
  const session = await executor.load(model, { optimization: 'disabled', threads: 1 })
  try {
    const out = await session.run(feeds)
    return session.outputNames.map((name) => out[name]!)
  } finally {
    await session.dispose()
  }
}

/** Largest |a - b| over the largest |b| (or 1e-3, so that zeros compare). */
function relativeError(a: ArrayLike<number>, b: ArrayLike<number>): number {
  assert.equal(a.length, b.length)
  let worst = 0
  let scale = 1e-3
  for (let i = 0; i < a.length; i++) {
    scale = Math.max(scale, Math.abs(b[i]!))
    if (a[i] === b[i] || (Number.isNaN(a[i]!) && Number.isNaN(b[i]!))) continue
    worst = Math.max(worst, Math.abs(a[i]! - b[i]!))
    if (Number.isNaN(a[i]! - b[i]!)) return Number.POSITIVE_INFINITY
  }
  return worst / scale
}

function assertClose(a: ArrayLike<number>, b: ArrayLike<number>, tolerance: number, what: string): void {
  const error = relativeError(a, b)
  if (error <= tolerance) return
  const show = (v: ArrayLike<number>): string => Array.from(v).slice(0, 12).join(', ')
  assert.fail(`${what}: relative error ${error.toExponential(2)}\n  have ${show(a)}\n  want ${show(b)}`)
}

/** 4-bit outputs cannot leave the engine: they are cast. */
function readableOutputs({ graph }: Model): void {
  for (const v of [...graph.outputs]) {
    graph.removeOutput(v)
    const packed = v.type && elementTypes[v.type.elem].bits < 8
    graph.addOutput(packed ? graph.append().op('Cast', [v], { to: elementTypes.int32.code }) : v)
  }
}

interface Differentiated {
  readonly sample: SampleModel
  /** Weights of the loss, one per output; null where the loss does not read it. */
  readonly r: readonly (Tensor | null)[]
  /** Gradients of the variables, null where the driver found none. */
  readonly gradients: readonly (Tensor | null)[]
}

/** The sample at WORKING_OPSET with types. */
async function prepare(def: OpDef, sample: OpSample, float: Float): Promise<SampleModel> {
  const built = buildSample(def, sample, float)
  upgradeSample(built.model)
  await inferTypes(built.model)
  return built
}

/** Operators that are differentiated as what they consist of are written so; the outputs must stay the same. */
async function decomposed(built: SampleModel): Promise<SampleModel> {
  const map: ValueMap = new Map()
  const model = cloneModel(built.model, map)
  if (decomposeNodes(model.graph) === 0) return built
  verifyModel(model)
  await inferTypes(model)
  return { model, feeds: built.feeds, variables: built.variables.map((v) => map.get(v)!) }
}

/** Gradients for loss = sum of y * r, r fixed and random. */
async function gradientsOf(built: SampleModel): Promise<Differentiated> {
  const rng = new Rng(5)
  const r = built.model.graph.outputs.map((y) => {
    const elem = y.type?.elem
    if (elem !== 'float32' && elem !== 'float64') return null
    const weights = Array.from({ length: elementCount(y.dims) }, () => rng.uniform(0.3, 1))
    return Tensor.from(elem, y.dims, weights)
  })
  const map: ValueMap = new Map()
  const twin = cloneModel(built.model, map)
  const { graph } = twin
  const outputs = [...graph.outputs]
  const seeds = new Map<Value, Value>()
  outputs.forEach((y, i) => {
    const weights = r[i]
    if (weights) seeds.set(y, graph.addInitializer('r', weights))
  })
  const variables = built.variables.map((v) => map.get(v)!)
  const found = differentiate(twin, seeds, variables)
  for (const y of outputs) graph.removeOutput(y)
  for (const g of found.values()) graph.addOutput(graph.append().op('Identity', [g]))
  const results = found.size > 0 ? await run(twin, built.feeds) : []
  const byVariable = new Map([...found.keys()].map((v, i) => [v, results[i]!]))
  return { sample: built, r, gradients: variables.map((v) => byVariable.get(v) ?? null) }
}

/** The same in float64; null where the engine has no kernel for it, or the loss itself is float32. */
async function gradientsInDouble(def: OpDef, sample: OpSample): Promise<Differentiated | null> {
  try {
    const found = await gradientsOf(await decomposed(await prepare(def, sample, 'float64')))
    return found.r.some((t) => t?.type === 'float32') ? null : found
  } catch (error) {
    if (error instanceof MncError && error.code === 'engine') return null
    throw error
  }
}

function lossOf(outputs: readonly Tensor[], r: readonly (Tensor | null)[]): number {
  let loss = 0
  outputs.forEach((y, i) => {
    const weights = r[i]?.toNumbers()
    if (!weights) return
    const values = y.toNumbers()
    for (let k = 0; k < values.length; k++) loss += values[k]! * weights[k]!
  })
  return loss
}

/** Central differences along two random directions a variable. */
async function checkFiniteDifferences(d: Differentiated, float: Float, what: string): Promise<void> {
  const [h, tolerance] = float === 'float64' ? [1e-5, 1e-6] : [1e-2, 1e-2]
  const { model, feeds } = d.sample
  const session = await executor.load(model, { optimization: 'disabled', threads: 1 })
  try {
    const loss = async (name: string, x: Tensor): Promise<number> => {
      const out = await session.run({ ...feeds, [name]: x })
      return lossOf(
        session.outputNames.map((n) => out[n]!),
        d.r,
      )
    }
    for (const [k, v] of d.sample.variables.entries()) {
      const x = feeds[v.name]!
      const at = x.toNumbers()
      const gradient = d.gradients[k]
      const g = gradient?.toNumbers() ?? Array.from(at, () => 0)
      assert.deepEqual(gradient?.dims ?? x.dims, x.dims, `${what}: dims of the gradient of input ${v.name}`)
      for (let trial = 0; trial < 2; trial++) {
        const rng = new Rng(9, k, trial)
        const direction = Array.from(at, () => rng.uniform(-1, 1))
        const shifted = (by: number): Tensor =>
          Tensor.from(
            x.type,
            x.dims,
            Array.from(at, (a, i) => a + by * direction[i]!),
          )
        const difference = (await loss(v.name, shifted(h))) - (await loss(v.name, shifted(-h)))
        const numeric = difference / (2 * h)
        let analytic = 0
        let scale = 1e-3
        direction.forEach((u, i) => {
          analytic += u * g[i]!
          scale += Math.abs(u * g[i]!)
        })
        const error = Math.abs(numeric - analytic) / scale
        assert.ok(error <= tolerance, `${what}: d/d${v.name} is ${analytic}, finite differences say ${numeric}`)
      }
    }
  } finally {
    await session.dispose()
  }
}

/** Forward values and gradients against TensorFlow.js, in float32. */
function checkOracle(d: Differentiated, forward: readonly Tensor[], what: string): void {
  const { model, feeds } = d.sample
  const variables = d.sample.variables.filter((_, k) => d.gradients[k])
  const gradients = d.gradients.filter((g) => g !== null)
  if (variables.length === 0) return
  const want = runOracle(model.graph, feeds, variables, d.r)
  forward.forEach((y, i) => {
    if (d.r[i]) assertClose(want.outputs[i]!, y.toNumbers(), 1e-4, `${what}: output ${i} of the oracle`)
  })
  variables.forEach((v, k) => {
    assertClose(gradients[k]!.toNumbers(), want.gradients[k]!, 1e-4, `${what}: gradient of ${v.name}, oracle`)
  })
}

/** Where the definition claims that the output cannot be negative, given the inputs' signs, it is not. */
function checkSign(
  def: OpDef,
  nodes: readonly Node[],
  { feeds }: SampleModel,
  y: Tensor | undefined,
  what: string,
): void {
  const node = nodes[0]
  if (!def.nonNegative || nodes.length !== 1 || !node || !y) return
  const notBelow = (t: Tensor | null | undefined): boolean => !!t && Array.from(t.toNumbers()).every((v) => v >= 0)
  const claimed = def.nonNegative(node, (i) => {
    const v = node.inputs[i]
    return notBelow(v?.constant ?? feeds[v?.name ?? ''])
  })
  if (claimed) assert.ok(notBelow(y), `${what}: negative, against its definition`)
}

function checkCosts(nodes: Iterable<Node>, what: string): void {
  for (const n of nodes) {
    const cost = requireOp(n).cost(n)
    for (const [kind, count] of Object.entries(cost))
      assert.ok(Number.isFinite(count) && count >= 0, `${what}: ${kind} of ${n.op} is ${count}`)
  }
}

const isDifferentiated = ({ gradient }: OpDef): boolean => typeof gradient === 'function' || gradient === 'decompose'

/** True where the sample has a gradient. */
async function checkSample(def: OpDef, sample: OpSample): Promise<boolean> {
  const what = `${def.op}, ${sample.name}`
  const original = buildSample(def, sample, 'float32')
  const bytes = encodeModel(original.model)
  assert.deepEqual(encodeModel(decodeModel(bytes)), bytes, `${what}: codec`)

  const lifted = await prepare(def, sample, 'float32')
  checkCosts(lifted.model.graph.nodes(), what)
  const readable = cloneModel(lifted.model)
  readableOutputs(readable)
  const forward = await run(readable, lifted.feeds)
  checkSign(def, [...readable.graph.nodes()], lifted, forward[0], what)
  if ((sample.opset ?? WORKING_OPSET) < WORKING_OPSET) {
    const before = await run(original.model, original.feeds)
    before.forEach((y, i) => {
      assert.equal(forward[i]!.type, y.type, `${what}: type after the upgrade`)
      assert.deepEqual(forward[i]!.dims, y.dims, `${what}: dims after the upgrade`)
      assertClose(forward[i]!.toNumbers(), y.toNumbers(), 1e-6, `${what}: upgraded output ${i}`)
    })
  }
  if (!isDifferentiated(def)) return false
  const parts = await decomposed(lifted)
  const again = await run(parts.model, parts.feeds)
  again.forEach((y, i) => {
    assert.deepEqual(y.dims, forward[i]!.dims, `${what}: dims when decomposed`)
    assertClose(y.toNumbers(), forward[i]!.toNumbers(), 1e-5, `${what}: output ${i} when decomposed`)
  })
  const single = { ...(await gradientsOf(parts)), sample: lifted }
  if (!withoutOracle[def.op]) checkOracle({ ...single, sample: parts }, forward, what)
  const double = singleInside.has(def.op) ? null : await gradientsInDouble(def, sample)
  await checkFiniteDifferences(double ?? single, double ? 'float64' : 'float32', what)
  return single.gradients.some((g) => g !== null)
}

for (const def of ops) {
  test(`${def.domain ? `${def.domain}::` : ''}${def.op}`, async () => {
    let differentiated = false
    for (const sample of def.samples) if (await checkSample(def, sample)) differentiated = true
    assert.equal(differentiated, isDifferentiated(def), 'some sample has a gradient to test')
  })
}

test('definitions are complete and consistent', () => {
  const seen = new Set<string>()
  const ascending = (list: readonly number[]): boolean => list.every((v, i) => i === 0 || v > list[i - 1]!)
  for (const def of ops) {
    const key = `${def.domain ?? ''}::${def.op}`
    assert.ok(!seen.has(key), `${key} is defined twice`)
    seen.add(key)
    assert.ok(def.samples.length > 0, `${key} has no sample`)
    assert.equal(new Set(def.samples.map((s) => s.name)).size, def.samples.length, `${key}: sample names repeat`)
    assert.ok(ascending(def.since), `${key}: since is not ascending`)
    const steps = (def.upgrades ?? []).map((u) => u.to)
    assert.ok(ascending(steps), `${key}: upgrades are not ascending`)
    if (!def.domain) {
      const known = sinceVersions(def.op)
      assert.ok(known, `${key} is not an operator of ONNX`)
      const oldest = known.filter((v) => v <= 7).at(-1) ?? 0
      assert.deepEqual(
        def.since,
        known.filter((v) => v >= oldest && v !== withdrawnIn[def.op]),
        `${key}: versions reachable from opset 7`,
      )
    }
    assert.equal(def.gradient === 'decompose', def.decompose !== undefined, `${key}: decompose`)
    if (typeof def.gradient === 'function')
      assert.ok(oracle[def.op] || withoutOracle[def.op], `${key}: no oracle entry and no reason for that`)
  }
  for (const op of Object.keys(withoutOracle)) assert.ok(!oracle[op], `${op} has an oracle and a reason not to`)
})

test('every operator of the standard has a definition or a reason why it is only carried', () => {
  for (const op of allOperators()) {
    const [defined, carried] = [findOp({ op, domain: '' }) !== undefined, carriedOps.includes(op)]
    assert.ok(defined !== carried, `${op}: ${defined ? 'both' : 'neither'}`)
  }
  assert.throws(() => requireOp({ op: 'Det', domain: '', id: 'd' }), /'Det' of domain 'ai.onnx': it needs the inverse/)
  assert.throws(() => requireOp({ op: 'ZipMap', domain: 'ai.onnx.ml', id: 'z' }), /classical models/)
})
