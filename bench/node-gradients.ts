/**
 * Gradients of the ONNX node tests: each case's loss, a random weighting of its float outputs, is differentiated with
 * respect to its float inputs and compared with a central difference along a random direction at the case's own inputs.
 * Integer and boolean inputs become constants. Prints every case that differs and the counts by reason.
 *
 * A case at a kink (equal elements under a maximum, x = 0 under a Relu) may differ: where the slopes ahead and behind, or
 * at two step widths, disagree, the case counts as a kink, not as a miss. State (running statistics) stays constant.
 *
 *   npx tsx bench/node-gradients.ts [name part]
 */
import { MncError } from '../src/errors.ts'
import type { Value } from '../src/graph/graph.ts'
import { Tensor } from '../src/graph/tensor.ts'
import { WORKING_OPSET } from '../src/ops/define-op.ts'
import { findOp } from '../src/ops/index.ts'
import { differentiate } from '../src/passes/autodiff.ts'
import { upgradeModelTo } from '../src/passes/upgrade-opset.ts'
import { inferTypes } from '../src/runtime/infer-types.ts'
import { ortExecutor } from '../src/runtime/ort.ts'
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
  const outputs = graph.outputs.filter((v) => v.type?.elem === 'float32')
  if (wrt.length === 0 || outputs.length === 0) return 'no float32 on both sides'
  for (const v of wrt) v.setType({ elem: 'float32', dims: c.feeds[v.name]!.dims })
  await inferTypes(model)
  const forward = await ortExecutor().load(model, { threads: 1 })
  const weights = Object.fromEntries(outputs.map((v) => [v.name, random(c.expected[v.name]!.dims)]))
  const seeds = new Map(
    outputs.map((v, i) => [v, graph.addInput(`seed_${i}`, { elem: 'float32', dims: weights[v.name]!.dims })]),
  )
  const gradients = differentiate(model, seeds, wrt)
  const names = new Map([...gradients].map(([v, g]) => [v.name, graph.append().op('Identity', [g])]))
  for (const g of names.values()) graph.addOutput(g)
  const fed = Object.fromEntries(wrt.map((v) => [v.name, c.feeds[v.name]!]))
  const seedFeeds = Object.fromEntries(outputs.map((v, i) => [`seed_${i}`, weights[v.name]!]))
  const both = await ortExecutor().load(model, { threads: 1 })
  const got = await both.run({ ...fed, ...seedFeeds })
  const direction = Object.fromEntries(wrt.map((v) => [v.name, random(fed[v.name]!.dims)]))
  let slope = 0
  for (const [name, g] of names) slope += dot(got[g.name]!, direction[name]!)
  const loss = async (step: number): Promise<number> => {
    const moved = Object.fromEntries(
      wrt.map((v) => {
        const [x, d] = [fed[v.name]!.toFloat32(), direction[v.name]!.toFloat32()]
        return [
          v.name,
          Tensor.float32(
            fed[v.name]!.dims,
            x.map((value, i) => value + step * d[i]!),
          ),
        ]
      }),
    )
    const y = await forward.run(moved)
    return outputs.reduce((sum, v) => sum + dot(y[v.name]!, weights[v.name]!), 0)
  }
  const at = await loss(0)
  const slopes = async (h: number) => [((await loss(h)) - at) / h, (at - (await loss(-h))) / h] as const
  const [ahead, behind] = await slopes(1e-3)
  const [far, back] = await slopes(4e-3)
  const [narrow, wide] = [(ahead + behind) / 2, (far + back) / 2]
  await forward.dispose()
  await both.dispose()
  const scale = Math.max(1, Math.abs(wide), Math.abs(narrow))
  if (!Number.isFinite(narrow)) return 'not finite at these inputs'
  if (Math.min(Math.abs(slope - narrow), Math.abs(slope - wide)) <= 1e-2 * scale) return 'equal'
  if (Math.abs(wide - narrow) > 1e-2 * scale || Math.abs(ahead - behind) > 3e-2 * scale) return 'kink'
  return `DIFFERS: ${slope} for ${narrow} (${wide})`
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
