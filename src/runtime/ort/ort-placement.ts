/**
 * What an execution provider runs, found by trying: each kind of node (operator, attributes, types, shapes as far as
 * kernels tell them apart) is loaded alone with the CPU forbidden, and run. Loading shows where there is no kernel,
 * running shows kernels that refuse (WebGPU's MaxPool has no Indices; its Split has at most as many outputs as a shader
 * has buffers), and the CPU's result shows kernels that compute something else (lower-conv.ts).
 *
 * suitedTo rewrites what is refused (provider-lowerings.ts), tries again, and leaves the rest to the CPU.
 */
import { MncError } from '../../base/errors.ts'
import { cloneModel, type ValueMap } from '../../graph/clone.ts'
import { Graph, type Node, type Value } from '../../graph/graph.ts'
import { Model } from '../../graph/model.ts'
import { Tensor } from '../../graph/tensor.ts'
import { type Dim, type ElementType, elementCount, elementTypes, isStatic } from '../../graph/types.ts'
import { lowerings } from '../../lowerings/provider-lowerings.ts'
import type { Fallback, LoadOptions, Session } from '../executor.ts'
import { inferTypes } from '../isolated/infer-types.ts'
import { ortExecutor } from './ort.ts'

/** Loads a model on the provider alone. */
export type LoadAlone = (model: Model, options?: LoadOptions) => Promise<Session>

export interface Suited {
  readonly suited: Model
  readonly fallbacks: readonly Fallback[]
  /** Names of the nodes that have a kernel which refuses: the engine must be told to take the CPU. */
  readonly onCpu: readonly string[]
}

/** Stands for an open dimension while a node is probed. */
const OPEN_DIM = 2
/** Constants up to this size are kept in a probe: axes, shapes, pads. */
const SMALL = 64

export async function suitedTo(model: Model, load: LoadAlone): Promise<Suited> {
  const suited = cloneModel(model)
  await inferTypes(suited)
  let refused = await refusedNodes(suited, load)
  for (let round = 0; round < 2; round++) {
    const rewritable = [...refused.keys()].filter((n) => lowerings[n.op]?.(n))
    if (rewritable.length === 0) break
    suited.graph.sort()
    await inferTypes(suited)
    refused = await refusedNodes(suited, load)
  }
  const kinds = new Map<string, { op: string; nodes: number; reason: string }>()
  for (const [n, reason] of refused) {
    const kind = kinds.get(`${n.op} ${reason}`) ?? { op: n.op, nodes: 0, reason }
    kind.nodes++
    kinds.set(`${n.op} ${reason}`, kind)
  }
  ;[...refused.keys()].forEach((n, i) => {
    n.rename(`on_cpu_${i}_${n.name}`)
  })
  return { suited, fallbacks: [...kinds.values()], onCpu: [...refused.keys()].map((n) => n.name) }
}

/** The nodes that the provider does not run, with its message. */
export async function refusedNodes(model: Model, load: LoadAlone): Promise<Map<Node, string>> {
  const map: ValueMap = new Map()
  const typed = cloneModel(model, map)
  await inferTypes(typed, { dims: { '*': OPEN_DIM } })
  const answers = answersOf(load)
  const refused = new Map<Node, string>()
  for (const node of model.graph.nodes()) {
    const first = node.outputs.find((v) => v !== null)
    const twin = first && map.get(first)?.producer
    if (!twin) continue
    const kind = kindOf(twin)
    if (!answers.has(kind)) answers.set(kind, await ask(twin, typed, load))
    const answer = answers.get(kind)
    if (answer) refused.set(node, answer)
  }
  return refused
}

const known = new WeakMap<LoadAlone, Map<string, string | null>>()
function answersOf(load: LoadAlone): Map<string, string | null> {
  const found = known.get(load) ?? new Map<string, string | null>()
  known.set(load, found)
  return found
}

/** Operators whose kernels depend on the values of constants: integer and fractional scales are different kinds. */
const VALUES_DECIDE = new Set(['Resize', 'Upsample'])

/**
 * Nodes of one kind are run by the same kernel. Where kernels depend on the values of constants, those count. Sizes count only
 * where inputs are contracted or joined (their shapes do not broadcast): those kernels work in blocks and vectors, and it
 * is in the remainder that they go wrong.
 */
function kindOf(n: Node): string {
  const shapes = n.inputs.map((v) => v?.constant?.dims ?? v?.type?.dims ?? null)
  const sized = !broadcast(shapes.filter((d) => d !== null && d.length > 1) as Dims[])
  const value = (v: Value | null): string => {
    if (!v) return '-'
    const dims = v.constant?.dims ?? v.type?.dims ?? ['?']
    const numbers = v.constant && VALUES_DECIDE.has(n.op) ? `{${Array.from(v.constant.toNumbers())}}` : ''
    return `${v.type?.elem}${v.constant ? 'c' : ''}${numbers}${sized ? `[${dims.map(sizeClass)}]` : dims.length}`
  }
  const attributes = [...n.attributes].map(([k, a]) => `${k}=${String(a.value)}`).sort()
  return [n.domain, n.op, ...attributes, '<', ...n.inputs.map(value), '>', ...n.outputs.map(value)].join(' ')
}

type Dims = readonly Dim[]

function broadcast(shapes: readonly Dims[]): boolean {
  const rank = Math.max(0, ...shapes.map((d) => d.length))
  return Array.from({ length: rank }, (_, i) => shapes.map((d) => d.at(-1 - i) ?? 1).filter((d) => d !== 1)).every(
    (sizes) => sizes.every((d) => d === sizes[0]),
  )
}

/** Vectors have 2 or 4 elements; beyond the smallest sizes only the remainder matters. */
const sizeClass = (d: Dim): string => (typeof d !== 'number' ? '?' : d <= 8 ? String(d) : `4n+${d % 4}`)

/** null: the provider runs it; else its message. Nodes that contain graphs and untyped ones are not tried. */
async function ask(node: Node, from: Model, load: LoadAlone): Promise<string | null> {
  if (node.subgraphs.length > 0) return 'holds a graph'
  // as an output such a value ends the process
  if (node.outputs.some((v) => v?.type && elementTypes[v.type.elem].bits < 8)) return 'values of less than 8 bits'
  const alone = new Model(new Graph('probe'), from.opset)
  for (const [domain, version] of from.opsets) alone.opsets.set(domain, version)
  const { graph } = alone
  const feeds: Record<string, Tensor> = {}
  const made = new Map<Value, Value>()
  for (const v of node.inputs) {
    if (!v || made.has(v)) continue
    const dims = v.constant?.dims ?? v.type?.dims?.map((d) => (typeof d === 'number' ? d : OPEN_DIM)) ?? null
    const elem = v.constant?.type ?? v.type?.elem
    if (!elem || !isStatic(dims)) return null
    if (v.constant && v.constant.size <= SMALL) made.set(v, graph.addInitializer(v.name, v.constant))
    else {
      const input = graph.addInput(v.name, { elem, dims })
      made.set(v, input)
      feeds[input.name] = v.constant ?? Tensor.from(elem, dims, numbers(elem, elementCount(dims)))
    }
  }
  const copy = graph.append().node({
    ...{ op: node.op, domain: node.domain, name: 'probe', attributes: Object.fromEntries(node.attributes) },
    inputs: node.inputs.map((v) => v && made.get(v)!),
    outputs: node.outputs.map((v, i) => (v ? `out${i}` : '')),
  })
  for (const v of copy.outputs) if (v) graph.addOutput(v)
  try {
    const found = await runOnce(load, alone, feeds)
    const cpu = (): Promise<Outputs> => runOnce((m, o) => ortExecutor().load(m, o), alone, feeds)
    const want = await cpu()
    // nodes that draw random numbers differ from themselves, too
    return agree(found, want) || !agree(want, await cpu()) ? null : 'wrong numbers'
  } catch (error) {
    if (error instanceof MncError) return reasonOf(error.message)
    throw error
  }
}

type Outputs = Readonly<Record<string, Tensor>>

async function runOnce(load: LoadAlone, model: Model, feeds: Outputs): Promise<Outputs> {
  const session = await load(model, { quiet: true })
  try {
    return await session.run(feeds)
  } finally {
    await session.dispose()
  }
}

/** Beyond this fraction of the largest value it is not rounding; float16 sums of a thousand products err by 0.7 %. */
const TOLERANCE = { float16: 2e-2, others: 1e-3 }

function agree(a: Outputs, b: Outputs): boolean {
  return Object.keys(b).every((name) => {
    const [x, y] = [a[name]!.toNumbers(), b[name]!.toNumbers()]
    let [worst, largest] = [0, 1e-6]
    for (let i = 0; i < y.length; i++) {
      if (Object.is(x[i], y[i])) continue
      worst = Math.max(worst, Math.abs(x[i]! - y[i]!))
      largest = Math.max(largest, Math.abs(y[i]!))
    }
    return worst <= (b[name]!.type === 'float16' ? TOLERANCE.float16 : TOLERANCE.others) * largest
  })
}

/** Integers may be indices: 0 is always valid. */
const numbers = (elem: ElementType, n: number): Float32Array =>
  Float32Array.from({ length: n }, (_, i) => (elem.startsWith('float') ? ((i * 0.6180339887) % 1) + 0.25 : 0))

function reasonOf(message: string): string {
  if (/CPU EP fallback has been explicitly disabled|assigned to the default CPU EP/.test(message)) return 'no kernel'
  return message.replace(/^onnxruntime [^:]*: /, '').replace(/^.*?Status Message: (?:\S+\.(?:cc|h):\d+ )?(?:\S+ )?/, '')
}
