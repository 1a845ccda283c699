/**
 * Runs a step graph: holds the state between steps and moves it in and out of models. Every state vector has two
 * buffers; a step reads one and the engine writes the next state straight into the other, so nothing is copied and the
 * state before a step that went wrong is still there. Where gradients are accumulated, a step is several runs of the
 * graph and one of the update; between the two, other processes may add what their runs gave (shared-sum.ts).
 *
 * Where the executor can keep tensors on its device, the state stays there from step to step and `download` brings it to
 * the host.
 */
import { bugError } from '../../base/errors.ts'
import type { Graph } from '../../graph/graph.ts'
import type { Model } from '../../graph/model.ts'
import { Tensor } from '../../graph/tensor.ts'
import { isNarrowFloat } from '../../graph/types.ts'
import type { DeviceInfo, Executor, Fallback, KeptOutputs, LoadOptions, Session } from '../../runtime/executor.ts'
import { DeviceState } from './device-state.ts'
import type { FlatLayout } from './flat-layout.ts'
import type { SharedSum } from './shared-sum.ts'
import type { StepGraph } from './step-options.ts'

/** A state vector: what the next step reads, and the buffer that it will write. */
interface Buffers {
  now: Tensor
  spare: Tensor
}

/** What one run of the step graph is fed. */
export interface StepFeed {
  readonly images: Tensor
  /** [batch, classes], where the loss reads labels. */
  readonly targets: Tensor | null
  /** What outputs should give, by the step's input. */
  readonly wanted?: Readonly<Record<string, Tensor>>
  /** The model's inputs other than the first, by name. */
  readonly others?: Readonly<Record<string, Tensor>>
}

export type Hyper = Readonly<Record<string, Tensor>>

export interface StepResult {
  readonly loss: number
  readonly gradientNorm: number
  /** Contributions of the outputs to the loss, in the order of the step's objectives; null if one output has a loss. */
  readonly losses: readonly number[] | null
  /** One tensor per run of the graph. */
  readonly logits: readonly Tensor[]
  /** Of the first run's batch (losses.ts); null where the step has none. */
  readonly teacherEntropy: number | null
}

/** State that is zero before a step, and that the step graph advances where gradients are accumulated. */
const MICRO_STATE = ['accumulated', 'moved']

/** How a step is run. */
export interface RunnerOptions extends LoadOptions {
  /** The processes that a step's gradient is summed over; each is fed an equal part of its micro-batches. */
  readonly sharedSum?: SharedSum | null | undefined
}

export class StepRunner {
  readonly graph: StepGraph
  readonly #session: Session
  readonly #update: Session | null
  readonly #state = new Map<string, Buffers>()
  #host: Tensor | null = null
  /** null: the state is the host's. */
  readonly #device: DeviceState | null
  readonly #sharedSum: SharedSum | null
  /** Which of the two has the present state; both after a copy. */
  #current: 'host' | 'device' | 'both' = 'host'

  private constructor(
    graph: StepGraph,
    session: Session,
    update: Session | null,
    device: DeviceState | null,
    sharedSum: SharedSum | null,
  ) {
    this.graph = graph
    this.#sharedSum = sharedSum
    this.#session = session
    this.#update = update
    this.#device = device
  }

  static async create(graph: StepGraph, executor: Executor, options: RunnerOptions = {}): Promise<StepRunner> {
    const { sharedSum = null, ...load } = options
    // other processes' sums go through the host
    const upload = sharedSum ? undefined : executor.upload
    const device = upload ? new DeviceState(upload) : null
    const keep = (model: Model) =>
      device && { keep: model.graph.outputs.map((v) => v.name).filter((name) => name.startsWith('next_')) }
    const session = await executor.load(graph.model, { step: true, ...load, ...keep(graph.model) })
    const { threads = 0, native = true } = options
    const update = graph.update && (await executor.load(graph.update, { threads, native, ...keep(graph.update) }))
    return new StepRunner(graph, session, update, device, sharedSum)
  }

  /** The nodes of a step that run on the CPU although the device is another. */
  get fallbacks(): readonly Fallback[] {
    return [...this.#session.fallbacks, ...(this.#update?.fallbacks ?? [])]
  }

  /** The instruction set of native kernels that the step has; null where it has none. */
  get native(): string | null {
    return this.#session.native ?? null
  }

  /** What it runs on. */
  inWords({ description }: DeviceInfo): string {
    return this.native === null ? description : `${description} with native kernels (${this.native})`
  }

  /** Brings the state to the host if it is not there: called before anything here reads it. */
  async download(): Promise<void> {
    if (this.#current !== 'device') return
    for (const [name, t] of Object.entries(this.#device!.now)) this.#state.get(name)!.now = await t.read()
    this.#current = 'both'
  }

  /** Takes weights, statistics and host constants from the model that the step was built from; zeroes the optimiser. */
  loadFrom(model: Model): void {
    const { weights, statistics, slots } = this.graph
    const read = (layout: FlatLayout): Float32Array => layout.pack((name) => trainedConstant(model.graph, name))
    this.#set('weights', read(weights))
    if (statistics.size > 0) this.#set('statistics', read(statistics))
    for (const slot of slots) this.#set(slot, new Float32Array(weights.size))
    if (this.#update) {
      this.#set('accumulated', new Float32Array(weights.size))
      if (statistics.size > 0) this.#set('moved', new Float32Array(statistics.size))
    }
    this.refreshHost(model)
  }

  /** Takes the host's constants (masks, scales) from the model again. */
  refreshHost(model: Model): void {
    const { host } = this.graph
    if (host.size === 0) return
    this.#host = Tensor.float32(
      [host.size],
      host.pack((name) => trainedConstant(model.graph, name)),
    )
  }

  /** Writes weights and running statistics (those given, or the present ones) into the model's initializers. */
  storeTo(model: Model, vectors: (name: string) => Float32Array = (name) => this.vector(name)): void {
    const write = (layout: FlatLayout, flat: Float32Array): void => {
      for (const e of layout.entries) {
        const v = model.graph.find(e.name)
        if (!v?.constant) throw bugError(`'${e.name}' is not in the model that was trained`)
        v.setConstant(Tensor.from(v.constant.type, e.dims, layout.slice(flat, e).slice()))
      }
    }
    write(this.graph.weights, vectors('weights'))
    if (this.graph.statistics.size > 0) write(this.graph.statistics, vectors('statistics'))
  }

  /** Whether the model's own weights cannot hold the present ones: float16 or bfloat16, trained in float32. */
  isNarrower(model: Model): boolean {
    const { weights, statistics } = this.graph
    const typeOf = (name: string) => model.graph.find(name)?.constant?.type
    return [...weights.entries, ...statistics.entries].some(({ name }) => typeOf(name) !== 'float32')
  }

  /** All numbers that the next step depends on, but for its batch and hyperparameters. */
  everything(): Float32Array[] {
    const state = [...this.#state.keys()].filter((name) => !MICRO_STATE.includes(name)).map((name) => this.vector(name))
    return this.#host ? [...state, this.#host.view('float32')] : state
  }

  /** The present value of a state vector; a view. */
  vector(name: string): Float32Array {
    if (this.#current === 'device') throw bugError('the state is on the device: download it first')
    const state = this.#state.get(name)
    if (!state) throw bugError(`the step has no state '${name}'`)
    return state.now.view('float32')
  }

  setVector(name: string, values: Float32Array): void {
    if (values.length !== this.vector(name).length) throw bugError(`state '${name}' has a different size`)
    this.#set(name, values.slice())
  }

  /** One step of a single run. The new state replaces the old only through `commit`. */
  run(images: Tensor, targets: Tensor | null, hyper: Hyper): Promise<StepResult> {
    return this.step([{ images, targets }], hyper)
  }

  /** One step: a run for each feed (as many as the graph accumulates), then the update. `commit` or `discard` it. */
  async step(feeds: readonly StepFeed[], hyper: Hyper): Promise<StepResult> {
    if (this.#device) return this.#stepOnDevice(this.#device, feeds, hyper)
    if (!this.#update) {
      const into = this.#into([...this.#state.keys()])
      const fetch = ['gradient_norm', ...this.#read, ...Object.keys(into)]
      const out = await this.#session.run(this.feeds(feeds[0]!, hyper), fetch, into)
      const gradientNorm = out.gradient_norm!.item()
      return { gradientNorm, ...this.#meanLoss([out]), logits: [out.logits!], ...entropyOf(out) }
    }
    const moving = MICRO_STATE.filter((name) => this.#state.has(name))
    const reset = (names: readonly string[]) => {
      for (const name of names) this.vector(name).fill(0)
    }
    // what ranks sum after each run begins from zero again
    const summed = this.#sharedSum?.hasStatistics === false ? moving.filter((name) => name !== 'moved') : moving
    const sums = () => [this.vector('accumulated'), summed.includes('moved') ? this.vector('moved') : null] as const
    const runs: Readonly<Record<string, Tensor>>[] = []
    this.#sharedSum?.begin()
    reset(moving)
    for (const feed of feeds) {
      const into = this.#into(moving)
      const out = await this.#session.run(this.feeds(feed, hyper), [...this.#read, ...Object.keys(into)], into)
      this.#swap(moving)
      runs.push(out)
      if (!this.#sharedSum) continue
      this.#sharedSum.add(...sums())
      reset(summed)
    }
    this.#sharedSum?.end(...sums())
    const into = this.#into(this.#updated)
    const given = this.#pick(this.#update, { ...hyper, ...this.#now() })
    const out = await this.#update.run(given, ['gradient_norm', ...Object.keys(into)], into)
    const logits = runs.map((r) => r.logits!)
    return { gradientNorm: out.gradient_norm!.item(), ...this.#meanLoss(runs), logits, ...entropyOf(runs[0]!) }
  }

  /** Over all micro-batches of the step, in their order. */
  #meanLoss(runs: readonly Readonly<Record<string, Tensor>>[]): Pick<StepResult, 'loss' | 'losses'> {
    const own = runs.map(({ loss, losses }) => [loss!.item(), ...Array.from(losses?.toNumbers() ?? [])])
    const all = this.#sharedSum?.allRounds(own) ?? own
    const [loss = 0, ...losses] = meanOf(all)
    return { loss, losses: losses.length === 0 ? null : losses }
  }

  async #stepOnDevice(device: DeviceState, feeds: readonly StepFeed[], hyper: Hyper): Promise<StepResult> {
    if (this.#current === 'host') {
      await device.load(this.#now())
      this.#current = 'both'
    }
    const results: KeptOutputs[] = []
    for (const feed of feeds) {
      const given = this.#pick(this.#session, { ...this.#given(feed, hyper), ...device.next })
      results.push(await this.#session.runKept(given, nextOf(this.#session, ['gradient_norm', ...this.#read])))
      device.offer(results.at(-1)!.kept)
    }
    if (this.#update) {
      const given = this.#pick(this.#update, { ...hyper, ...device.next })
      results.push(await this.#update.runKept(given, nextOf(this.#update, ['gradient_norm'])))
      device.offer(results.at(-1)!.kept)
      for (const name of MICRO_STATE) if (this.#state.has(name)) await device.reset(name)
    }
    const runs = results.slice(0, feeds.length)
    return {
      gradientNorm: results.at(-1)!.read.gradient_norm!.item(),
      ...this.#meanLoss(runs.map(({ read }) => read)),
      logits: runs.map(({ read }) => read.logits!),
      ...entropyOf(runs[0]!.read),
    }
  }

  /** Makes the state that the last step wrote the present one. */
  commit(): void {
    if (this.#device) {
      this.#device.commit()
      this.#current = 'device'
      return
    }
    this.#swap(this.#updated)
  }

  /** Goes back to the state before the last step. */
  discard(): void {
    this.#device?.discard()
  }

  /** The gradient of each parameter at the present state, without an update. */
  async gradients(images: Tensor, targets: Tensor | null, hyper: Hyper): Promise<Map<string, Float32Array>> {
    await this.download()
    const out = await this.#session.run(this.feeds({ images, targets }, hyper), ['gradient'])
    const flat = out.gradient!.view('float32')
    const { weights } = this.graph
    return new Map(weights.entries.map((e) => [e.name, weights.slice(flat, e)]))
  }

  /** All inputs of the step graph for one run at the present state. */
  feeds(feed: StepFeed, hyper: Hyper): Record<string, Tensor> {
    return this.#pick(this.#session, { ...this.#given(feed, hyper), ...this.#now() })
  }

  /** What the host reads from each run. */
  get #read(): readonly string[] {
    return ['loss', 'losses', 'logits', 'teacher_entropy'].filter((name) => this.#session.outputNames.includes(name))
  }

  /** The inputs that are not state. */
  #given({ images, targets, others, wanted }: StepFeed, hyper: Hyper): Record<string, Tensor> {
    const feeds: Record<string, Tensor> = { ...others, ...wanted, [this.graph.inputName]: images, ...hyper }
    for (const name of Object.keys(feeds)) feeds[name] = widened(feeds[name]!)
    if (targets && this.graph.classes !== null) feeds.targets = targets
    if (this.#host) feeds.host = this.#host
    return feeds
  }

  /** State that the update (or the one graph that does everything) advances. */
  get #updated(): readonly string[] {
    const names = [...this.#state.keys()]
    return this.#update ? names.filter((name) => !MICRO_STATE.includes(name)) : names
  }

  #now(): Record<string, Tensor> {
    if (this.#current === 'device') throw bugError('the state is on the device: download it first')
    return Object.fromEntries([...this.#state].map(([name, { now }]) => [name, now]))
  }

  #into(names: readonly string[]): Record<string, Tensor> {
    return Object.fromEntries(names.map((name) => [`next_${name}`, this.#state.get(name)!.spare]))
  }

  #swap(names: readonly string[]): void {
    for (const name of names) {
      const b = this.#state.get(name)!
      ;[b.now, b.spare] = [b.spare, b.now]
    }
  }

  /** Only what the session reads: with accumulation the optimiser's inputs belong to the update. */
  #pick<T>(session: Session, feeds: Readonly<Record<string, T>>): Record<string, T> {
    return Object.fromEntries(Object.entries(feeds).filter(([name]) => session.inputNames.includes(name)))
  }

  #set(name: string, values: Float32Array): void {
    if (this.#current === 'device') throw bugError('the state is on the device: download it first')
    this.#current = 'host'
    const dims = [values.length]
    this.#state.set(name, {
      now: Tensor.float32(dims, values),
      spare: Tensor.float32(dims, new Float32Array(values.length)),
    })
  }

  endProfiling(): string | undefined {
    return this.#session.endProfiling()
  }

  async dispose(): Promise<void> {
    this.#device?.dispose()
    await this.#session.dispose()
    await this.#update?.dispose()
  }
}

/** The step works in float32 even if the model does not (widen-floats.ts). */
export const widened = (t: Tensor): Tensor => (isNarrowFloat(t.type) ? Tensor.float32(t.dims, t.toFloat32()) : t)

const entropyOf = (out: Readonly<Record<string, Tensor>>) => ({ teacherEntropy: out.teacher_entropy?.item() ?? null })

/** Element by element. */
const meanOf = (rows: readonly (readonly number[])[]): number[] =>
  (rows[0] ?? []).map((_, i) => rows.reduce((sum, row) => sum + row[i]! / rows.length, 0))

/** Those of `others` that the session has, and the state that it advances. */
const nextOf = (session: Session, others: readonly string[]): string[] =>
  session.outputNames.filter((name) => others.includes(name) || name.startsWith('next_'))

function trainedConstant(graph: Graph, name: string): Float32Array {
  const tensor = graph.find(name)?.constant
  if (!tensor) throw bugError(`'${name}' is not in the model that is trained`)
  return tensor.toFloat32()
}
