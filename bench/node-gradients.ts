/**
 * Gradients of the ONNX node tests: each case's loss, a random weighting of its float outputs, is differentiated with
 * respect to its float inputs and compared with a central difference along a random direction at the case's own inputs.
 * Integer and boolean inputs become constants. Prints every case that differs and the counts by reason.
 *
 * Differences are taken in float64 where onnxruntime has the kernels (agreement to 1e-4), else in float32 (1e-2).
 *
 * A case at a kink (equal elements under a maximum, x = 0 under a Relu) may differ: where the slopes ahead and behind, or
 * at two step widths, disagree, the case counts as a kink, not as a miss. State (running statistics) stays constant.
 *
 *   npx tsx bench/node-gradients.ts [name part]
 */
import { MncError } from '../src/base/errors.ts'
import { cloneModel } from '../src/graph/clone.ts'
import type { Graph, Value } from '../src/graph/graph.ts'
import type { Model } from '../src/graph/model.ts'
import { Tensor } from '../src/graph/tensor.ts'
import { elementTypes } from '../src/graph/types.ts'
import { findOp } from '../src/ops/index.ts'
import { upgradeModelTo } from '../src/ops/raise-opset.ts'
import { WORKING_OPSET } from '../src/ops/support/define-op.ts'
import { differentiate } from '../src/passes/autodiff.ts'
import { settleShapes } from '../src/passes/shapes/settle-shapes.ts'
import type { Session } from '../src/runtime/executor.ts'
import { ortExecutor } from '../src/runtime/ort/ort.ts'
import { type NodeCase, nodeTests, readNodeTest } from '../test/support/node-tests.ts'

let state = 1
const uniform = (): number => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0
  return state / 2 ** 31 - 1
}
const random = (dims: readonly number[]): Tensor => {
  const n = dims.reduce((p, d) => p * d, 1)
  return Tensor.float32(dims, Float32Array.from({ length: n }, uniform))
}
const dot = (a: Tensor, b: Tensor): number => {
  const [x, y] = [a.toNumbers(), b.toNumbers()]
  let sum = 0
  for (let i = 0; i < x.length; i++) sum += x[i]! * y[i]!
  return sum
}

/** Read only where operators keep state. */
const isState = (v: Value): boolean =>
  v.uses.size > 0 && [...v.uses].every((n) => findOp(n)?.state?.some((i) => n.inputs[i] === v))

/** The same model in float64, whose differences are exact to many more digits. */
function inDouble(model: Model): Model {
  const copy = cloneModel(model)
  const widen = (graph: Graph): void => {
    for (const v of graph.values()) {
      if (v.constant?.type === 'float32') v.setConstant(Tensor.from('float64', v.constant.dims, v.constant.toNumbers()))
      else if (v.type?.elem === 'float32') v.setType({ elem: 'float64', dims: v.type.dims })
    }
    for (const n of graph.nodes()) {
      const value = n.tensor('value')
      if (value?.type === 'float32') n.setAttribute('value', Tensor.from('float64', value.dims, value.toNumbers()))
      if (n.op === 'Cast' && n.int('to', 0) === elementTypes.float32.code)
        n.setAttribute('to', elementTypes.float64.code)
      for (const body of n.subgraphs) widen(body)
    }
  }
  widen(copy.graph)
  return copy
}

type Elem = 'float32' | 'float64'

/** The model in float64 where the engine has all kernels for that, and as it is. */
async function forwards(model: Model, fed: Readonly<Record<string, Tensor>>): Promise<[Elem, Session][]> {
  const single: [Elem, Session] = ['float32', await ortExecutor().load(model, { threads: 1 })]
  try {
    const session = await ortExecutor().load(inDouble(model), { threads: 1, quiet: true })
    const wide = Object.fromEntries(
      Object.entries(fed).map(([n, t]) => [n, Tensor.from('float64', t.dims, t.toNumbers())]),
    )
    const out = await session.run(wide)
    if (Object.values(out).every((t) => t.type !== 'float32')) return [['float64', session], single]
    await session.dispose()
  } catch (error) {
    if (!(error instanceof MncError)) throw error
  }
  return [single]
}

/** A mask's lowest float in an output: no slope survives next to it. */
const HUGE = 1e30

/** Compares `slope` with the differences of `loss` along the direction. */
async function compare(slope: number, elem: Elem, loss: (step: number) => Promise<number>): Promise<string> {
  const [h, tolerance] = elem === 'float64' ? [1e-6, 1e-4] : [1e-3, 1e-2]
  const at = await loss(0)
  if (!(Math.abs(at) < HUGE)) return 'not finite at these inputs'
  const slopes = async (step: number) => [((await loss(step)) - at) / step, (at - (await loss(-step))) / step] as const
  const [ahead, behind] = await slopes(h)
  const [far, back] = await slopes(4 * h)
  const [narrow, wide] = [(ahead + behind) / 2, (far + back) / 2]
  const scale = Math.max(1, Math.abs(wide), Math.abs(narrow))
  if (!Number.isFinite(narrow)) return 'not finite at these inputs'
  if (Math.min(Math.abs(slope - narrow), Math.abs(slope - wide)) <= tolerance * scale) return `equal, ${elem}`
  if (Math.abs(wide - narrow) > tolerance * scale || Math.abs(ahead - behind) > 3 * tolerance * scale) return 'kink'
  return `DIFFERS: ${slope} for ${narrow} (${wide})`
}

async function check(c: NodeCase): Promise<string> {
  const model = c.model()
  upgradeModelTo(model, WORKING_OPSET)
  const { graph } = model
  for (const v of [...graph.inputs]) {
    if ((v.type?.elem === 'float32' && !isState(v)) || !c.feeds[v.name]) continue
    v.setConstant(c.feeds[v.name]!)
    graph.removeInput(v)
  }
  const wrt = graph.inputs.filter((v) => v.type?.elem === 'float32')
  const floats = (): Value[] => graph.outputs.filter((v) => v.type?.elem === 'float32')
  if (wrt.length === 0 || floats().length === 0) return 'no float32 on both sides'
  for (const v of wrt) v.setType({ elem: 'float32', dims: c.feeds[v.name]!.dims })
  const fed = Object.fromEntries(wrt.map((v) => [v.name, c.feeds[v.name]!]))
  const sessions = await forwards(model, fed)
  await settleShapes(model)
  const outputs = floats()
  const weights = Object.fromEntries(outputs.map((v) => [v.name, random(c.expected[v.name]!.dims)]))
  const seeds = new Map(
    outputs.map((v, i) => [v, graph.addInput(`seed_${i}`, { elem: 'float32', dims: weights[v.name]!.dims })]),
  )
  const gradients = differentiate(model, seeds, wrt)
  const names = new Map([...gradients].map(([v, g]) => [v.name, graph.append().op('Identity', [g])]))
  for (const g of names.values()) graph.addOutput(g)
  const seedFeeds = Object.fromEntries(outputs.map((v, i) => [`seed_${i}`, weights[v.name]!]))
  const both = await ortExecutor().load(model, { threads: 1 })
  const got = await both.run({ ...fed, ...seedFeeds })
  const direction = Object.fromEntries(wrt.map((v) => [v.name, random(fed[v.name]!.dims)]))
  let slope = 0
  for (const [name, g] of names) slope += dot(got[g.name]!, direction[name]!)
  await both.dispose()
  let result = ''
  for (const [elem, session] of sessions) {
    const loss = async (step: number): Promise<number> => {
      const moved = Object.fromEntries(
        wrt.map((v) => {
          const [x, d] = [fed[v.name]!.toNumbers(), direction[v.name]!.toNumbers()]
          const values = Array.from(x, (value, i) => value + step * d[i]!)
          return [v.name, Tensor.from(elem, fed[v.name]!.dims, values)]
        }),
      )
      const y = await session.run(moved)
      return outputs.reduce((sum, v) => sum + dot(y[v.name]!, weights[v.name]!), 0)
    }
    // some float64 kernels compute in float32 inside: a kink there may not show at float32's step
    if (result === '') result = await compare(slope, elem, loss)
    else if (result === 'kink') {
      const single = await compare(slope, elem, loss)
      if (single.startsWith('equal')) result = single
    }
    await session.dispose()
  }
  return result
}

const counts = new Map<string, number>()
for (const name of nodeTests()) {
  if (!name.includes(process.argv[2] ?? '')) continue
  const c = readNodeTest(name)
  let result: string
  try {
    result = typeof c === 'string' ? c : await check(c)
  } catch (error) {
    result = error instanceof MncError ? `${error.code}: ${error.message}` : `CRASH: ${String(error)}`
    if (error instanceof MncError && error.code === 'engine') result = 'onnxruntime cannot run it'
  }
  if (/DIFFERS|CRASH|kink/.test(result)) console.log(`${name}: ${result}`)
  const reason = result.replace(/:.*/, '').replace('unsupported-node', 'no gradient, with its reason')
  counts.set(reason, (counts.get(reason) ?? 0) + 1)
  if (
    result.startsWith('unsupported-node') ||
    result.startsWith('unknown-op') ||
    result.startsWith('bug') ||
    result.startsWith('internal')
  )
    console.log(`${name}: ${result}`)
}
console.log(JSON.stringify(Object.fromEntries(counts)))
