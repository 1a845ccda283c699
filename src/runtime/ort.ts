/**
 * The onnxruntime executor. Together with nothing else, this file imports onnxruntime. The module is loaded on first
 * use, so that commands which run no graph start fast.
 */
import { existsSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node'
import { bugError, MncError, modelError, usageError } from '../errors.ts'
import { cloneModel } from '../graph/clone.ts'
import { encodeModel } from '../graph/codec.ts'
import { Model } from '../graph/model.ts'
import { Tensor, type TypedArray } from '../graph/tensor.ts'
import type { ElementType } from '../graph/types.ts'
import { findBlock } from './blocked/find-block.ts'
import { useBlockedLayout } from './blocked/index.ts'
import type { DeviceTensor, Executor, Fallback, LoadOptions, Session } from './executor.ts'
import { inferTypes } from './infer-types.ts'
import { holdsHalf, roundHalf } from './rounded-half.ts'
import { SessionCache } from './session-cache.ts'

type Ort = typeof import('onnxruntime-node')
let loaded: Promise<Ort> | undefined
const ort = (): Promise<Ort> => {
  loaded ??= import('onnxruntime-node')
  return loaded
}

/** Types that cross the boundary; names are onnxruntime's, which are ours. */
const viewable = new Set<ElementType>([
  ...(['float32', 'float64', 'uint8', 'int8', 'uint16', 'int16', 'int32', 'uint32'] as const),
  ...(['bool', 'float16', 'int64', 'uint64'] as const),
])
type Crossing = 'float32' | 'float64' | 'uint8' | 'int8' | 'uint16' | 'int16' | 'int32' | 'uint32'

/** The executor of onnxruntime's CPU provider. For others see ort-provider.ts. */
export function ortExecutor(): Executor {
  return {
    device: { id: 'cpu', description: 'onnxruntime (cpu)' },
    async load(model, options = {}) {
      return options.step && model instanceof Model
        ? loadStep(await suited(model), options)
        : loadSession(model, options, ['cpu'])
    },
  }
}

/** Below this, loading takes the engine about a second: DenseNet-BC-40-12 has 4,400 nodes, DenseNet-BC-100-12 17,700. */
const LARGE_STEP_NODES = 8000

/** A step's session: made of what the engine's optimiser made of the same step before, where that is kept. */
async function loadStep(step: Model, options: LoadOptions): Promise<Session> {
  const whole = !options.optimization || options.optimization === 'all'
  if (!options.cache || !whole || step.graph.nodeCount < LARGE_STEP_NODES) return loadSession(step, options, ['cpu'])
  const cache = new SessionCache(options.cache)
  const bytes = encodeModel(step)
  const key = cache.key(bytes, `onnxruntime ${(await ort()).env.versions.node}, blocks of ${await blockOfEngine()}`)
  const kept = await cache.find(key)
  if (kept) {
    try {
      return await loadSession(kept, { ...options, optimization: 'disabled' }, ['cpu'])
    } catch {
      await cache.drop(key)
    }
  }
  const path = await cache.begin()
  if (!path) return loadSession(step, options, ['cpu'])
  try {
    const session = await loadSession(bytes, { ...options, optimizedModelPath: path }, ['cpu'])
    await cache.keep(key, path)
    return session
  } catch {
    await cache.abandon(path)
    return loadSession(step, options, ['cpu'])
  }
}

type Providers = NonNullable<InferenceSession.SessionOptions['executionProviders']>

interface ProviderExtras {
  readonly fallbacks?: readonly Fallback[]
  readonly download?: Download
}

const refuseDownload: Download = () => {
  throw bugError('this session keeps no tensors on a device')
}

/** A session of the providers named, the first that has a kernel for a node first. */
export async function loadSession(
  given: Model | Uint8Array | string,
  options: LoadOptions,
  executionProviders: Providers,
  { fallbacks = [], download = refuseDownload }: ProviderExtras = {},
): Promise<Session> {
  const { InferenceSession, Tensor: OrtTensor } = await ort()
  const { keep } = options
  const session: InferenceSession.SessionOptions = {
    executionProviders,
    graphOptimizationLevel: options.optimization ?? 'all',
    intraOpNumThreads: options.threads ?? 0,
    logSeverityLevel: options.quiet ? 4 : 3,
    // a step's memory plan is one block of all that is ever alive: without it DenseNet-BC-40-12 peaks at 790 MB, not 1380
    enableMemPattern: options.step !== true,
    ...(options.config && { extra: nestConfig(options.config) }),
    ...(options.optimizedModelPath && { optimizedModelFilePath: options.optimizedModelPath }),
    ...(keep && { preferredOutputLocation: Object.fromEntries(keep.map((name) => [name, 'gpu-buffer' as const])) }),
    ...(options.profilePrefix && { enableProfiling: true, profileFilePrefix: options.profilePrefix }),
  }
  let inner: InferenceSession
  try {
    inner =
      typeof given === 'string'
        ? await InferenceSession.create(given, session)
        : await InferenceSession.create(given instanceof Model ? encodeModel(given) : given, session)
  } catch (cause) {
    throw (given instanceof Model && foreignOperator(given)) || engineError(cause, 'refuses the model')
  }
  const runOrt = async (feeds: Readonly<Record<string, Tensor | DeviceTensor>>, wanted: Wanted) => {
    const fed: Record<string, OrtTensor> = {}
    for (const [name, t] of Object.entries(feeds))
      fed[name] = t instanceof OrtDeviceTensor ? t.inner : toOrt(OrtTensor, t as Tensor, name)
    try {
      // what goes wrong comes as an error; the engine would log it to stderr besides, in colour
      return await inner.run(fed, wanted, { logSeverityLevel: 4 })
    } catch (cause) {
      throw engineError(cause, 'could not run the model')
    }
  }
  return {
    inputNames: inner.inputNames,
    outputNames: inner.outputNames,
    fallbacks,
    async run(feeds, fetch, into) {
      const wanted: Wanted = {}
      for (const name of fetch ?? inner.outputNames) {
        const target = into?.[name]
        wanted[name] = target ? toOrt(OrtTensor, target, name) : null
      }
      const out = await runOrt(feeds, wanted)
      const result: Record<string, Tensor> = {}
      for (const [name, t] of Object.entries(out)) result[name] = into?.[name] ?? fromOrt(t as OrtTensor)
      return result
    },
    async runKept(feeds, fetch) {
      const out = await runOrt(feeds, Object.fromEntries(fetch.map((name) => [name, null])))
      const read: Record<string, Tensor> = {}
      const kept: Record<string, DeviceTensor> = {}
      for (const [name, value] of Object.entries(out)) {
        const t = value as OrtTensor
        if (t.location === 'gpu-buffer') kept[name] = new OrtDeviceTensor(t, download)
        else read[name] = fromOrt(t)
      }
      return { read, kept }
    },
    endProfiling() {
      if (options.profilePrefix === undefined) return undefined
      inner.endProfiling()
      return profileOf(options.profilePrefix)
    },
    async dispose() {
      await inner.release()
    },
  }
}

type Wanted = Record<string, OrtTensor | null>

/** Copies a float32 tensor from a provider's memory. The binding has no call for it: a session of one Identity does it. */
export type Download = (t: DeviceTensor) => Promise<Tensor>

class OrtDeviceTensor implements DeviceTensor {
  readonly inner: OrtTensor
  readonly #download: Download

  constructor(inner: OrtTensor, download: Download) {
    this.inner = inner
    this.#download = download
  }

  get dims(): readonly number[] {
    return this.inner.dims
  }

  read(): Promise<Tensor> {
    return this.#download(this)
  }

  dispose(): void {
    this.inner.dispose()
  }
}

let channelBlock: Promise<number> | undefined
const blockOfEngine = (): Promise<number> => {
  channelBlock ??= findBlock((model) => loadSession(model, { threads: 1 }, ['cpu']))
  return channelBlock
}

/** A copy of a training step for the engine's own kernels. */
async function suited(step: Model): Promise<Model> {
  if (holdsHalf(step)) {
    const copy = cloneModel(step)
    await inferTypes(copy)
    roundHalf(copy)
    return copy
  }
  const block = await blockOfEngine()
  if (block === 0) return step
  const copy = cloneModel(step)
  useBlockedLayout(copy, block)
  return copy
}

/** The engine names the file <prefix>_<date>.json and does not say so: the newest one. */
function profileOf(prefix: string): string | undefined {
  const folder = dirname(prefix)
  const files = readdirSync(folder).filter((f) => f.startsWith(`${basename(prefix)}_`) && f.endsWith('.json'))
  const newest = files.sort().at(-1)
  return newest === undefined ? undefined : join(folder, newest)
}

/** `a.b` entries as the nested object that the binding flattens again. */
function nestConfig(config: Readonly<Record<string, string>>): Record<string, unknown> {
  const out: Record<string, unknown> = {}
  for (const [path, value] of Object.entries(config)) {
    const parts = path.split('.')
    let at = out
    for (const part of parts.slice(0, -1)) {
      at[part] ??= {}
      at = at[part] as Record<string, unknown>
    }
    at[parts.at(-1)!] = value
  }
  return out
}

function toOrt(OrtTensorClass: typeof OrtTensor, t: Tensor, name: string): OrtTensor {
  if (!viewable.has(t.type)) throw usageError(`'${name}' has type ${t.type}, which cannot be fed to onnxruntime`)
  return new OrtTensorClass(t.type as Crossing, t.view(t.type as Crossing), t.dims)
}

function fromOrt(t: OrtTensor): Tensor {
  if (t.type === 'string') {
    const parts = (t.data as string[]).map((s) => new TextEncoder().encode(s))
    return new Tensor('string', t.dims, Buffer.concat(parts))
  }
  return Tensor.of(t.type as ElementType, t.dims, t.data as TypedArray)
}

/** Engine messages are long and start with boilerplate; keep the part that says what is wrong. */
function engineError(cause: unknown, what: string): MncError {
  const message = cause instanceof Error ? cause.message : String(cause)
  const short = message
    .replace(/^.*?\b(?:ORT_\w+|Exception during initialization|was false)[:.] ?/s, '')
    .split('\n')[0]!
  return new MncError(`onnxruntime ${what}: ${short}`, { code: 'engine', blame: 'model', cause })
}

/** Domains whose operators onnxruntime brings along. */
const ENGINE_DOMAINS = /^(ai\.onnx(\..+)?|com\.microsoft(\..+)?|com\.ms\..+|org\.pytorch\.aten)?$/

/** Why a model with an operator of somebody's own domain cannot run; null where there is none. */
function foreignOperator(model: Model): MncError | null {
  const own = new Set(model.functions.map((f) => `${f.domain}::${f.name}`))
  for (const graph of [model.graph, ...model.functions.map((f) => f.graph)])
    for (const n of graph.allNodes()) {
      if (ENGINE_DOMAINS.test(n.domain) || own.has(`${n.domain}::${n.op}`)) continue
      const what = `operator '${n.op}' of domain '${n.domain}' is not known to onnxruntime, and this has to run the model`
      return modelError('foreign-operator', what, { node: n.id, next: 'replace it by standard operators' })
    }
  return null
}

/** Types and shapes of a model's inputs and outputs as onnxruntime sees them. */
export async function sessionTypes(
  model: Model,
): Promise<{ name: string; elem: ElementType; dims: (number | string | null)[] }[]> {
  const { InferenceSession } = await ort()
  let inner: InferenceSession
  try {
    const options = { graphOptimizationLevel: 'disabled', logSeverityLevel: 4 } as const
    inner = await InferenceSession.create(encodeModel(model), options)
  } catch (cause) {
    throw foreignOperator(model) ?? engineError(cause, 'refuses the model')
  }
  const out: { name: string; elem: ElementType; dims: (number | string | null)[] }[] = []
  for (const m of inner.outputMetadata) {
    if (!m.isTensor) continue
    const dims = m.shape.map((d) => ((typeof d === 'number' && d < 0) || d === '' ? null : d))
    out.push({ name: m.name, elem: m.type as ElementType, dims })
  }
  await inner.release()
  return out
}

/** The library that a provider is in, where the package does not bring it and it is not there. */
export function missingLibrary(provider: string): string | null {
  const folder = dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'))
  const name = `onnxruntime_providers_${provider}`
  const file = process.platform === 'win32' ? `${name}.dll` : `lib${name}.so`
  return existsSync(join(folder, 'bin', 'napi-v6', process.platform, process.arch, file)) ? null : file
}

/** The engine's version, the devices it brings along, and those that need libraries installed beside it. */
export async function engineInfo(): Promise<Record<'bundled' | 'external', readonly string[]> & { version: string }> {
  const { env, listSupportedBackends } = await ort()
  const names = (bundled: boolean) =>
    listSupportedBackends()
      .filter((b) => b.bundled === bundled)
      .map((b) => b.name)
  return { version: env.versions.node ?? env.versions.common, bundled: names(true), external: names(false) }
}
