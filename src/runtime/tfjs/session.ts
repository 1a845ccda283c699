/**
 * Interprets a graph on TensorFlow.js tensors: node after node, each value disposed of after its last reader, so that
 * nothing is left after a run. Constants are copied to the device once. Nodes without a kernel here run in onnxruntime on
 * the CPU, one session each.
 */
import { bugError, modelError } from '../../base/errors.ts'
import { Graph, type Node, type Value } from '../../graph/graph.ts'
import { Model } from '../../graph/model.ts'
import { Tensor } from '../../graph/tensor.ts'
import { elementTypes } from '../../graph/types.ts'
import type { DeviceTensor, Fallback, KeptOutputs, Session } from '../executor.ts'
import { ortExecutor } from '../ort/ort.ts'
import type { OpenBackend } from './backends.ts'
import { kernels } from './index.ts'
import { NotCovered, type Tf, type TfTensor } from './kernel.ts'
import { TfDeviceTensor, toDevice, toHost } from './values.ts'

export interface TfSessionOptions {
  /** Nodes that run on the CPU. */
  readonly onCpu: ReadonlySet<Node>
  readonly fallbacks: readonly Fallback[]
  readonly keep: readonly string[]
}

type Feeds = Readonly<Record<string, Tensor | DeviceTensor>>

export class TfSession implements Session {
  readonly inputNames: readonly string[]
  readonly outputNames: readonly string[]
  readonly fallbacks: readonly Fallback[]
  readonly #tf: Tf
  readonly #backend: string
  readonly #model: Model
  readonly #nodes: readonly Node[]
  readonly #constants = new Map<Value, TfTensor>()
  readonly #onCpu: ReadonlySet<Node>
  readonly #sessions = new Map<Node, Session>()
  readonly #keep: ReadonlySet<string>
  /** The last node that reads a value. */
  readonly #lastUse = new Map<Value, Node>()

  constructor({ tf, name }: OpenBackend, model: Model, { onCpu, fallbacks, keep }: TfSessionOptions) {
    this.#tf = tf
    this.#backend = name
    this.#model = model
    this.#onCpu = onCpu
    this.fallbacks = fallbacks
    this.#keep = new Set(keep)
    const { graph } = model
    this.inputNames = graph.fed.map((v) => v.name)
    this.outputNames = graph.outputs.map((v) => v.name)
    this.#nodes = [...graph.nodes()]
    for (const n of this.#nodes) for (const v of n.inputs) if (v) this.#lastUse.set(v, n)
    for (const n of onCpu) {
      if (n.subgraphs.length > 0)
        throw modelError('engine', `TensorFlow.js refuses the model: ${n.label} holds a graph`)
      for (const v of n.outputs)
        if (v?.type && elementTypes[v.type.elem].bits < 8)
          throw modelError('engine', `TensorFlow.js refuses the model: ${n.label} produces ${v.type.elem} values`)
    }
  }

  async run(
    feeds: Feeds,
    fetch: readonly string[] = this.outputNames,
    into?: Readonly<Record<string, Tensor>>,
  ): Promise<Record<string, Tensor>> {
    const { read, kept } = await this.#run(feeds, fetch, false)
    for (const t of Object.values(kept)) t.dispose()
    const out: Record<string, Tensor> = {}
    for (const [name, t] of Object.entries(read)) {
      const target = into?.[name]
      if (target) target.view('float32').set(t.view('float32'))
      out[name] = target ?? t
    }
    return out
  }

  runKept(feeds: Feeds, fetch: readonly string[]): Promise<KeptOutputs> {
    return this.#run(feeds, fetch, true)
  }

  async #run(feeds: Feeds, fetch: readonly string[], keeping: boolean): Promise<KeptOutputs> {
    // one process may use several
    if (this.#tf.getBackend() !== this.#backend) await this.#tf.setBackend(this.#backend)
    const values = new Map<Value, TfTensor>()
    /** What this run allocated and must release. */
    const own = new Set<TfTensor>()
    try {
      this.#feed(feeds, values, own)
      const wanted = new Set(fetch.map((name) => this.#output(name)))
      for (const node of this.#nodes) {
        await this.#node(node, values, own)
        for (const v of new Set(node.inputs))
          if (v && this.#lastUse.get(v) === node && !wanted.has(v)) this.#release(v, values, own)
        for (const v of node.outputs) if (v && !v.isUsed) this.#release(v, values, own)
      }
      const read: Record<string, Tensor> = {}
      const kept: Record<string, DeviceTensor> = {}
      for (const v of wanted) {
        const t = values.get(v) ?? this.#constant(v)
        const type = v.type?.elem ?? 'float32'
        if (keeping && this.#keep.has(v.name)) {
          kept[v.name] = new TfDeviceTensor(own.has(t) ? t : t.clone(), type)
          own.delete(t)
        } else read[v.name] = await toHost(t, type)
      }
      return { read, kept }
    } finally {
      for (const t of own) t.dispose()
    }
  }

  #feed(feeds: Feeds, values: Map<Value, TfTensor>, own: Set<TfTensor>): void {
    for (const v of this.#model.graph.inputs) {
      const t = feeds[v.name]
      if (v.default && !t) continue
      if (!t) throw bugError(`input '${v.name}' is not fed`)
      if (t instanceof TfDeviceTensor) {
        values.set(v, t.inner)
        continue
      }
      const made = toDevice(this.#tf, t as Tensor, v.name)
      values.set(v, made)
      own.add(made)
    }
  }

  async #node(node: Node, values: Map<Value, TfTensor>, own: Set<TfTensor>): Promise<void> {
    const x = node.inputs.map((v) => (v ? (values.get(v) ?? this.#constant(v)) : undefined))
    const made = this.#onCpu.has(node) ? await this.#runOnCpu(node, x) : this.#compute(node, x)
    node.outputs.forEach((v, i) => {
      const t = made[i]
      if (!v || !t) {
        t?.dispose()
        return
      }
      values.set(v, t)
      own.add(t)
    })
    for (const t of made.slice(node.outputs.length)) t.dispose()
  }

  /** New tensors, whatever the kernel handed back. */
  #compute(node: Node, x: readonly (TfTensor | undefined)[]): TfTensor[] {
    const kernel = kernels[node.op]
    if (!kernel) throw noKernel(node, 'no kernel')
    try {
      return this.#tf.tidy(() => {
        const out = kernel({ tf: this.#tf, node, x })
        const list = Array.isArray(out) ? (out as readonly TfTensor[]) : [out as TfTensor]
        return list.map((t, i) => (x.includes(t) || list.indexOf(t) < i ? t.clone() : t))
      })
    } catch (cause) {
      if (cause instanceof NotCovered) throw noKernel(node, cause.message)
      const message = cause instanceof Error ? cause.message : String(cause)
      throw modelError('engine', `TensorFlow.js could not run the model: ${node.label}: ${message}`, { cause })
    }
  }

  async #runOnCpu(node: Node, x: readonly (TfTensor | undefined)[]): Promise<TfTensor[]> {
    let session = this.#sessions.get(node)
    if (!session) {
      session = await ortExecutor().load(alone(node, this.#model))
      this.#sessions.set(node, session)
    }
    const feeds: Record<string, Tensor> = {}
    for (const [i, v] of node.inputs.entries())
      if (v && !v.constant) feeds[v.name] = await toHost(x[i]!, v.type?.elem ?? 'float32')
    const out = await session.run(feeds)
    return node.outputs.map((v) => toDevice(this.#tf, v ? out[v.name]! : Tensor.scalar(0), v?.name ?? ''))
  }

  #constant(v: Value): TfTensor {
    const known = this.#constants.get(v)
    if (known) return known
    if (!v.stored) throw bugError(`'${v.name}' has not been computed`)
    const t = toDevice(this.#tf, v.stored, v.name)
    this.#constants.set(v, t)
    return t
  }

  #release(v: Value, values: Map<Value, TfTensor>, own: Set<TfTensor>): void {
    const t = values.get(v)
    if (!t || !own.delete(t)) return
    t.dispose()
    values.delete(v)
  }

  #output(name: string): Value {
    const v = this.#model.graph.outputs.find((o) => o.name === name)
    if (!v) throw bugError(`the model has no output '${name}'`)
    return v
  }

  endProfiling(): undefined {
    return undefined
  }

  async dispose(): Promise<void> {
    for (const t of this.#constants.values()) t.dispose()
    this.#constants.clear()
    for (const s of this.#sessions.values()) await s.dispose()
    this.#sessions.clear()
  }
}

const noKernel = (node: Node, why: string) =>
  modelError('engine', `TensorFlow.js refuses the model: ${node.op}: ${why}`)

/** A model of one node: its constants stay, its other inputs are fed. */
function alone(node: Node, from: Model): Model {
  const model = new Model(new Graph('node'), from.opset)
  for (const [domain, version] of from.opsets) model.opsets.set(domain, version)
  const { graph } = model
  const made = new Map<Value, Value>()
  for (const v of node.inputs) {
    if (!v || made.has(v)) continue
    made.set(v, v.constant ? graph.addInitializer(v.name, v.constant) : graph.addInput(v.name, v.type))
  }
  const copy = graph.append().node({
    ...{ op: node.op, domain: node.domain, name: node.name, attributes: Object.fromEntries(node.attributes) },
    inputs: node.inputs.map((v) => v && made.get(v)!),
    outputs: node.outputs.map((v) => v?.name ?? ''),
  })
  for (const v of copy.outputs) if (v) graph.addOutput(v)
  return model
}
