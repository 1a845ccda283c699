/**
 * Memory of a training step of single operators: forward and gradient at 10 M elements, each in a process of its own. The
 * figure is the peak of resident memory above that of the same process before the model is built, as a multiple of the
 * bytes of the operator's inputs, outputs and the gradients of both. At most 4 passes.
 *
 *   node --import tsx bench/memory.ts [--only Pad,Resize] [--sample cubic] [--elements 1e7] [--jobs 2]
 *     [--out bench/results/memory.json]
 *
 * Cases are the operators' samples (src/ops) with one axis of the first input enlarged, and the axes of other inputs and
 * the numbers of constants that have to go with it: found by trying which of them onnxruntime accepts. The last axis that
 * can grow is measured once per operator; for operators that move elements along an axis, in every sample, and the other
 * axes in one. `--only` measures these operators anew, `--sample` of these the samples whose name holds that, and both
 * leave the other rows of the result. The bound is the only peer.
 */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { parseArgs } from 'node:util'
import { Graph, type Value } from '../src/graph/graph.ts'
import { Model } from '../src/graph/model.ts'
import { Tensor } from '../src/graph/tensor.ts'
import { type ElementType, elementCount, elementTypes, isStatic } from '../src/graph/types.ts'
import { ops } from '../src/ops/index.ts'
import { type OpDef, type OpSample, WORKING_OPSET } from '../src/ops/support/define-op.ts'
import { upgradeNode } from '../src/ops/upgrade.ts'
import { differentiate } from '../src/passes/autodiff.ts'
import { decomposeNodes } from '../src/passes/decompose-ops.ts'
import { lowerCostly } from '../src/passes/lower-costly.ts'
import { inferTypes } from '../src/runtime/isolated/infer-types.ts'
import { ortExecutor } from '../src/runtime/ort/ort.ts'
import { machine } from './torch-peer.ts'

const { values: args } = parseArgs({
  options: {
    out: { type: 'string', default: 'bench/results/memory.json' },
    only: { type: 'string' },
    sample: { type: 'string' },
    elements: { type: 'string', default: '1e7' },
    jobs: { type: 'string', default: '2' },
    child: { type: 'string' },
    forward: { type: 'string' },
  },
})

const BOUND = 4
/** A process above this is stopped. */
const MOST = 6 * 2 ** 30
const SECONDS = 300
/** A constant of more elements is fed instead, as indices are. */
const LARGE_CONSTANT = 2 ** 16

/** Operators that move elements along an axis: every sample is a different form. */
const EVERY_SAMPLE =
  /^(Pad|Resize|Gather.*|Scatter.*|GridSample|AffineGrid|DFT|STFT|Col2Im|Einsum|Compress|CenterCropPad|CumSum|Trilu|.*Pool|TensorScatter)$/

/** What is enlarged: axes of inputs, and places in constant integers. */
interface Plan {
  readonly op: string
  readonly domain: string
  readonly sample: string
  readonly axis: number
  /** By input: the axes that grow. */
  readonly axes: readonly (readonly number[])[]
  /** By input: places of its values that grow. */
  readonly places: readonly (readonly number[])[]
  readonly factor: number
}

interface Built {
  readonly model: Model
  readonly feeds: Record<string, Tensor>
  readonly variables: readonly Value[]
}

function find(plan: Plan): { def: OpDef; sample: OpSample } {
  const def = ops.find((d) => d.op === plan.op && (d.domain ?? '') === plan.domain)!
  return { def, sample: def.samples.find((s) => s.name === plan.sample)! }
}

/** The sample's numbers repeated, or random ones in its range. */
function numbers(count: number, values: readonly number[] | undefined, [low, high]: readonly [number, number]) {
  const out = new Float32Array(count)
  let state = 7
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    out[i] = values ? values[i % values.length]! : low + ((high - low) * state) / 2 ** 32
  }
  return out
}

const isFloat = (type: ElementType): boolean => type === 'float32' || type === 'float64'

function build(plan: Plan): Built {
  const { def, sample } = find(plan)
  const model = new Model(new Graph('memory'), sample.opset ?? WORKING_OPSET)
  model.irVersion = Math.max(model.irVersion, 8)
  if (def.domain) model.opsets.set(def.domain, 1)
  const { graph } = model
  const feeds: Record<string, Tensor> = {}
  const variables: Value[] = []
  const inputs = sample.inputs.map((input, i) => {
    if (!input) return null
    const type = input.type ?? 'float32'
    const dims = input.dims.map((d, k) => (plan.axes[i]?.includes(k) ? d * plan.factor : d))
    const grown = input.values?.map((v, k) => (plan.places[i]?.includes(k) ? v * plan.factor : v))
    const count = elementCount(dims)
    const data = numbers(count, grown, input.range ?? [-1, 1])
    const tensor = type === 'float32' ? Tensor.float32(dims, data) : Tensor.from(type, dims, data)
    if ((input.constant ?? !isFloat(type)) && count <= LARGE_CONSTANT) return graph.addInitializer(`c${i}`, tensor)
    const v = graph.addInput(`x${i}`, { elem: type, dims })
    feeds[v.name] = tensor
    if (isFloat(type) && !input.constant) variables.push(v)
    return v
  })
  const outputs = Array.from({ length: sample.outputs ?? 1 }, (_, i) => `y${i}`)
  const node = graph.append().node({
    ...{ op: def.op, domain: def.domain ?? '', name: 'n', inputs, outputs },
    attributes: sample.attributes ?? {},
  })
  for (const v of node.outputs) if (v) graph.addOutput(v)
  for (const n of [...graph.nodes()]) upgradeNode(n, model.opset, WORKING_OPSET)
  model.setOpset(Math.max(model.opset, WORKING_OPSET))
  return { model, feeds, variables }
}

/** Types, also for what the operator is decomposed into. */
async function settle({ model }: Built): Promise<void> {
  await inferTypes(model)
  if (decomposeNodes(model.graph) > 0) await inferTypes(model)
}

/** Adds the gradients of all variables; the gradients at the outputs are fed. */
function addGradients({ model, feeds, variables }: Built): number {
  const { graph } = model
  const seeds = new Map<Value, Value>()
  for (const [i, y] of [...graph.outputs].entries()) {
    if (!y.type || !isFloat(y.type.elem)) continue
    const seed = graph.addInput(`dy${i}`, y.type)
    const arriving = numbers(elementCount(y.dims), undefined, [-1, 1])
    feeds[seed.name] = Tensor.from(y.type.elem, y.dims, arriving)
    seeds.set(y, seed)
  }
  const found = differentiate(model, seeds, variables)
  for (const g of found.values()) graph.addOutput(graph.append().op('Identity', [g]))
  lowerCostly(graph)
  return found.size
}

/** Bytes of inputs and outputs, and of the gradients of those that are floats. */
function bytesOf({ model, feeds }: Built): number {
  const sizes = [...model.graph.inputs, ...model.graph.outputs].map(({ type }) => {
    if (!type || !isStatic(type.dims)) return 0
    return (elementCount(type.dims) * elementTypes[type.elem].bits * (isFloat(type.elem) ? 2 : 1)) / 8
  })
  return Object.keys(feeds).length === 0 ? 0 : sizes.reduce((s, n) => s + n, 0)
}

const status = (field: string): number => {
  const line = readFileSync('/proc/self/status', 'utf8')
    .split('\n')
    .find((l) => l.startsWith(`${field}:`))
  return Number(line?.match(/\d+/)?.[0] ?? 0) * 1024
}

/** The forward operator alone: what onnxruntime's kernel takes in addition to its tensors. */
async function forward(plan: Plan): Promise<{ bytes: number; peak: number; seconds: number }> {
  const small = build({ ...plan, factor: 1 })
  const warm = await ortExecutor().load(small.model)
  await warm.run(small.feeds)
  await warm.dispose()
  const before = status('VmRSS')
  writeFileSync('/proc/self/clear_refs', '5')
  const started = performance.now()
  const { model, feeds } = build(plan)
  const session = await ortExecutor().load(model)
  const out = await session.run(feeds)
  const peak = status('VmHWM') - before
  const bytes = [...Object.values(feeds), ...Object.values(out)].reduce((s, t) => s + t.byteLength, 0)
  return { bytes, peak: peak - bytes, seconds: (performance.now() - started) / 1000 }
}

/** One case in this process. */
async function measure(plan: Plan): Promise<{ bytes: number; peak: number; seconds: number }> {
  const small = build({ ...plan, factor: 1 })
  await settle(small)
  addGradients(small)
  const warm = await ortExecutor().load(small.model, { step: true })
  await warm.run(small.feeds)
  await warm.dispose()
  const before = status('VmRSS')
  writeFileSync('/proc/self/clear_refs', '5')
  const started = performance.now()
  const built = build(plan)
  await settle(built)
  const bytes = bytesOf(built)
  addGradients(built)
  const session = await ortExecutor().load(built.model, { step: true })
  await session.run(built.feeds)
  const peak = status('VmHWM') - before
  return { bytes, peak, seconds: (performance.now() - started) / 1000 }
}

/** Whether the enlarged sample runs and has gradients, and how its tensors grow: null where not. */
async function attempt(plan: Plan): Promise<{ nodes: number; elements: number } | null> {
  try {
    const built = build(plan)
    await settle(built)
    const tensors = [...built.model.graph.inputs, ...built.model.graph.outputs]
    const elements = Math.max(...tensors.map(({ type }) => elementCount(type!.dims as number[])))
    const outputs = built.model.graph.outputs.reduce((s, v) => s + elementCount(v.dims), 0)
    if (addGradients(built) === 0) return null
    const session = await ortExecutor().load(built.model, { quiet: true, threads: 1 })
    try {
      await session.run(built.feeds)
    } finally {
      await session.dispose()
    }
    return { nodes: [...built.model.graph.nodes()].length, elements: Math.max(elements, outputs) }
  } catch (error) {
    if (process.env.DEBUG) console.error(plan.op, plan.sample, plan.factor, error)
    return null
  }
}

/** Axes of other inputs that may have to grow with axis `axis` of the first: none, equal places, equal sizes. */
function* companions(sample: OpSample, axis: number): Generator<Pick<Plan, 'axes' | 'places'>> {
  const first = sample.inputs[0]!
  const size = first.dims[axis]!
  const fromBack = first.dims.length - axis
  const same = (pick: (dims: readonly number[], k: number, i: number) => boolean) =>
    sample.inputs.map((input, i) =>
      i === 0 ? [axis] : (input?.dims.flatMap((d, k) => (d === size && pick(input.dims, k, i) ? [k] : [])) ?? []),
    )
  const floats = (i: number): boolean => (sample.inputs[i]?.type ?? 'float32') === 'float32'
  const axesChoices = [
    same(() => false),
    same((_d, k, i) => floats(i) && k === axis),
    same((dims, k, i) => floats(i) && dims.length - k === fromBack),
    same((_d, k) => k === axis),
    same((dims, k) => dims.length - k === fromBack),
    same((_d, _k, i) => floats(i)),
    same(() => true),
    // only rows of indices, where elements are written or read, grow with the first
    sample.inputs.map((input, i) => (i === 0 ? [axis] : input && input.dims.length > axis ? [axis] : [])),
    sample.inputs.map((input, i) => (i === 0 ? [axis] : input && !floats(i) ? [0] : [])),
  ]
  const none = sample.inputs.map((): number[] => [])
  const integers = (pick: (v: number, k: number, n: number) => boolean): number[][] =>
    sample.inputs.map((input) =>
      input?.type === 'int64' && input.values
        ? input.values.flatMap((v, k) => (pick(v, k, input.dims[0] ?? 1) ? [k] : []))
        : [],
    )
  const placeChoices = [
    none,
    integers((v, k) => k === axis && v !== 0),
    integers((v) => v === size),
    integers((v) => v > 1),
  ]
  for (const places of placeChoices) for (const axes of axesChoices) yield { axes, places }
}

const outer = (sample: OpSample): boolean => (sample.opset ?? WORKING_OPSET) >= WORKING_OPSET

/** The cases of an operator, and reasons where axes cannot be enlarged. */
async function plansOf(def: OpDef, elements: number): Promise<{ plans: Plan[]; left: string[] }> {
  const plans: Plan[] = []
  const left: string[] = []
  const seen = new Set<number>()
  const samples = def.samples.filter(outer)
  for (const sample of samples.length > 0 ? samples : def.samples) {
    const rank = sample.inputs[0]?.dims.length ?? 0
    const every = EVERY_SAMPLE.test(def.op)
    let grown = 0
    for (let axis = rank - 1; axis >= 0; axis--) {
      if (every ? grown > 0 && seen.has(axis) : seen.size > 0) continue
      const base = { op: def.op, domain: def.domain ?? '', sample: sample.name, axis }
      const one = await attempt({ ...base, axes: [], places: [], factor: 1 })
      if (!one) {
        left.push(`${sample.name}: has no gradient by itself`)
        break
      }
      const reasons = new Set<string>()
      let plan: Plan | null = null
      for (const choice of companions(sample, axis)) {
        const [two, four] = [
          await attempt({ ...base, ...choice, factor: 2 }),
          await attempt({ ...base, ...choice, factor: 4 }),
        ]
        if (!two || !four) continue
        if (four.nodes > two.nodes || two.nodes > one.nodes + 8) reasons.add('is unrolled along it')
        else if (four.elements <= two.elements) continue
        else if (four.elements > 2.2 * two.elements) reasons.add('grows with its square')
        else {
          const each = (four.elements - two.elements) / 2
          const factor = Math.max(1, Math.floor((elements - two.elements) / each) + 2)
          plan = { ...base, ...choice, factor }
          break
        }
      }
      if (plan) {
        plans.push(plan)
        grown++
        seen.add(axis)
      } else
        left.push(`${sample.name}, axis ${axis}: ${[...reasons].join(', ') || 'no enlargement that onnxruntime takes'}`)
    }
  }
  return { plans, left }
}

interface Row {
  readonly op: string
  readonly sample: string
  readonly axis: number
  /** Bytes of inputs, outputs and gradients. */
  readonly bytes?: number
  readonly peak?: number
  readonly ratio?: number
  readonly seconds?: number
  readonly fault?: string
  /** How much of that is onnxruntime's forward kernel, if the rest is within the bound. */
  readonly engine?: string
}

/** Runs a case; if it is over the bound, also what the engine's kernel takes of that. */
async function run(plan: Plan): Promise<Row> {
  const row = await inChild(plan, 'child')
  if (!row.fault && row.ratio! <= BOUND) return row
  const alone = await inChild(plan, 'forward')
  if (row.fault) return alone.fault ? { ...row, engine: `the forward operator alone: ${alone.fault}` } : row
  if (alone.fault || (row.peak! - alone.peak!) / row.bytes! > BOUND) return row
  return { ...row, engine: `its kernel takes ${Math.round(alone.peak! / 1e6)} MB in addition to inputs and outputs` }
}

/** Runs a case in a process of its own. */
function inChild(plan: Plan, what: 'child' | 'forward'): Promise<Row> {
  const { op, sample, axis } = plan
  const argv = ['--import', 'tsx', 'bench/memory.ts', `--${what}`, JSON.stringify(plan)]
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'pipe'] })
  let [out, err] = ['', '']
  let stopped = ''
  const stop = (why: string): void => {
    stopped ||= why
    child.kill('SIGKILL')
  }
  child.stdout.on('data', (s: Buffer) => {
    out += s
  })
  child.stderr.on('data', (s: Buffer) => {
    err += s
  })
  const late = setTimeout(() => stop(`took more than ${SECONDS} s`), SECONDS * 1000)
  const watch = setInterval(() => {
    try {
      const pages = Number(readFileSync(`/proc/${child.pid}/statm`, 'utf8').split(' ')[1])
      if (pages * 4096 > MOST) stop(`more than ${MOST / 2 ** 30} GiB`)
    } catch {
      // it has ended
    }
  }, 50)
  return new Promise((done) =>
    child.on('close', () => {
      clearTimeout(late)
      clearInterval(watch)
      const line = out.trim().split('\n').at(-1) ?? ''
      if (stopped) return done({ op, sample, axis, fault: stopped })
      if (!line.startsWith('{'))
        return done({
          op,
          sample,
          axis,
          fault:
            err
              .trim()
              .split('\n')
              .find((l) => /Error|rror:/.test(l))
              ?.slice(0, 200) ?? 'no result',
        })
      const { bytes, peak, seconds } = JSON.parse(line) as { bytes: number; peak: number; seconds: number }
      const ratio = Math.round((100 * peak) / bytes) / 100
      done({ op, sample, axis, bytes, peak, ratio, seconds: Math.round(10 * seconds) / 10 })
    }),
  )
}

async function main(): Promise<void> {
  const started = performance.now()
  const only = args.only?.split(',')
  const isChosen = ({ op, sample }: Pick<Plan, 'op' | 'sample'>): boolean =>
    (!only || only.includes(op)) && (!args.sample || sample.includes(args.sample))
  const elements = Number(args.elements)
  const differentiated = ops.filter(({ gradient }) => typeof gradient === 'function' || gradient === 'decompose')
  const chosen = differentiated.filter((d) => !only || only.includes(d.op))
  const rows: Row[] = []
  const left: Record<string, string[]> = {}
  const queue: Plan[] = []
  for (const def of chosen) {
    const { plans, left: reasons } = await plansOf(def, elements)
    queue.push(...plans.filter(isChosen))
    if (reasons.length > 0) left[def.op] = reasons
    if (plans.length === 0) console.error(`${def.op}: not enlarged: ${reasons.join('; ')}`)
  }
  console.error(
    `${queue.length} cases of ${chosen.length} operators, planned in ${((performance.now() - started) / 1000).toFixed(0)} s`,
  )
  const work = async (): Promise<void> => {
    for (let plan = queue.shift(); plan; plan = queue.shift()) {
      const row = await run(plan)
      rows.push(row)
      const over = row.engine ?? row.fault ?? (row.ratio! > BOUND ? 'over' : '')
      console.error(`${row.op.padEnd(24)} ${`${row.sample}, axis ${row.axis}`.padEnd(48)} ${row.ratio ?? ''} ${over}`)
    }
  }
  await Promise.all(Array.from({ length: Number(args.jobs) }, work))
  const before =
    (only || args.sample) && existsSync(args.out) ? (JSON.parse(readFileSync(args.out, 'utf8')) as Result) : null
  const kept = before?.rows.filter((r) => !isChosen(r)) ?? []
  const all = [...kept, ...rows]
  const order = new Map(differentiated.map((d, i) => [d.op, i]))
  all.sort((a, b) => order.get(a.op)! - order.get(b.op)! || a.sample.localeCompare(b.sample) || a.axis - b.axis)
  const over = all.filter((r) => !r.engine && (r.fault || r.ratio! > BOUND))
  const notEnlarged: Record<string, readonly string[]> = { ...before?.notEnlarged }
  for (const { op } of chosen) delete notEnlarged[op]
  const result: Result = {
    ...{ machine: machine(), elements, bound: BOUND },
    minutes: before?.minutes ?? Math.round((performance.now() - started) / 6000) / 10,
    ...{ operators: differentiated.length, measured: new Set(all.map((r) => r.op)).size },
    ...{ cases: all.length, within: all.filter((r) => r.ratio! <= BOUND).length, over },
    ofTheEngine: all.filter((r) => r.engine),
    ...{ notEnlarged: { ...notEnlarged, ...left }, rows: all },
  }
  await mkdir(dirname(args.out), { recursive: true })
  await writeFile(args.out, `${JSON.stringify(result, null, 1)}\n`)
  console.log(`${result.within} of ${all.length} cases within ${BOUND} times their tensors, ${over.length} over`)
  if (over.length > 0) process.exitCode = 1
}

interface Result {
  readonly machine: unknown
  readonly elements: number
  readonly bound: number
  /** Of the run over all operators. */
  readonly minutes: number
  /** With a gradient. */
  readonly operators: number
  readonly measured: number
  readonly cases: number
  readonly within: number
  readonly over: readonly Row[]
  readonly ofTheEngine: readonly Row[]
  /** Axes that did not grow, by operator, and why. */
  readonly notEnlarged: Readonly<Record<string, readonly string[]>>
  readonly rows: readonly Row[]
}

if (args.forward !== undefined) console.log(JSON.stringify(await forward(JSON.parse(args.forward) as Plan)))
else if (args.child !== undefined) console.log(JSON.stringify(await measure(JSON.parse(args.child) as Plan)))
else await main()
