/**
 * Sessions of onnxruntime. This file alone imports it, on first use, so that commands that run no graph start fast. It
 * uses the package's native session object rather than the class around it: that class refuses models with an output of a
 * type that it has no name for (bfloat16, float8), and does not expose the type.
 *
 * Values of types that the binding cannot hand over (`isReadable`) are never asked for, whoever requests them: asking for a
 * 4-bit one ends the process.
 */
import { existsSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-node'
import type { Binding } from 'onnxruntime-node/dist/binding.js'
import { bugError, MncError, modelError, usageError } from '../base/errors.ts'
import { Tensor, type TypedArray } from '../graph/tensor.ts'
import { type Dim, type ElementType, elementTypeOf } from '../graph/types.ts'
import type { DeviceTensor, Fallback, LoadOptions, Session } from './executor.ts'
import { engineThreads } from './threads.ts'

interface Engine {
  readonly package: typeof import('onnxruntime-node')
  readonly native: typeof import('onnxruntime-node/dist/binding.js').binding
}
let loaded: Promise<Engine> | undefined
const engine = (): Promise<Engine> => {
  loaded ??= Promise.all([import('onnxruntime-node'), import('onnxruntime-node/dist/binding.js')]).then(
    ([all, { binding, initOrt }]) => {
      initOrt()
      return { package: all, native: binding }
    },
  )
  return loaded
}

/** Loads the engine before its first use. */
export const loadEngine = async (): Promise<void> => void (await engine())

/** Types that cross the boundary as typed arrays; names are onnxruntime's, which are ours. */
const viewable = new Set<ElementType>([
  ...(['float32', 'float64', 'uint8', 'int8', 'uint16', 'int16', 'int32', 'uint32'] as const),
  ...(['bool', 'float16', 'int64', 'uint64'] as const),
])
type Crossing = 'float32' | 'float64' | 'uint8' | 'int8' | 'uint16' | 'int16' | 'int32' | 'uint32'

/** Whether values of the type can be read from onnxruntime. Sequences, maps and optionals have no element type: they do not. */
export const isReadable = (type: ElementType | undefined): boolean =>
  type !== undefined && (type === 'string' || viewable.has(type))

/** Codes of onnxruntime's own enumeration where they are not ONNX's. */
const engineCodes: Readonly<Record<number, ElementType>> = { 24: 'uint2', 25: 'int2', 26: 'float8e8m0' }

const elementOf = (m: Binding.ValueMetadata): ElementType | undefined =>
  m.isTensor ? (engineCodes[m.type] ?? elementTypeOf(m.type)) : undefined

export type Providers = NonNullable<InferenceSession.SessionOptions['executionProviders']>

export interface ProviderExtras {
  readonly fallbacks?: readonly Fallback[]
  readonly download?: Download
}

const refuseDownload: Download = () => {
  throw bugError('this session keeps no tensors on a device')
}

/** Lets timers and signals in before a call that blocks the thread. */
const breathe = (): Promise<void> => new Promise((done) => setImmediate(done))

async function create(source: Uint8Array | string, options: InferenceSession.SessionOptions) {
  const { native } = await engine()
  await breathe()
  const inner = new native.InferenceSession()
  try {
    if (typeof source === 'string') inner.loadModel(source, options)
    else inner.loadModel(source.buffer as ArrayBuffer, source.byteOffset, source.byteLength, options)
  } catch (cause) {
    throw engineError(cause, 'refuses the model')
  }
  return inner
}

/** A session of the providers named, the first that has a kernel for a node first; `source` is a model's bytes or path. */
export async function createSession(
  source: Uint8Array | string,
  options: LoadOptions,
  executionProviders: Providers,
  { fallbacks = [], download = refuseDownload }: ProviderExtras = {},
): Promise<Session> {
  const { Tensor: OrtTensor } = (await engine()).package
  const { keep } = options
  const inner = await create(source, {
    executionProviders,
    graphOptimizationLevel: options.optimization ?? 'all',
    intraOpNumThreads: engineThreads(options.threads),
    logSeverityLevel: options.quiet ? 4 : 3,
    // a step's memory plan is one block of all that is ever alive: without it DenseNet-BC-40-12 peaks at 790 MB, not 1380
    enableMemPattern: options.step !== true,
    ...(options.config && { extra: nestConfig(options.config) }),
    ...(options.optimizedModelPath && { optimizedModelFilePath: options.optimizedModelPath }),
    ...(keep && { preferredOutputLocation: Object.fromEntries(keep.map((name) => [name, 'gpu-buffer' as const])) }),
    ...(options.profilePrefix && { enableProfiling: true, profileFilePrefix: options.profilePrefix }),
  })
  const outputs = new Map(inner.outputMetadata.map((m) => [m.name, elementOf(m)]))
  const outputNames = [...outputs].filter(([, type]) => isReadable(type)).map(([name]) => name)
  const runOrt = async (feeds: Readonly<Record<string, Tensor | DeviceTensor>>, wanted: Wanted) => {
    const fed: Record<string, OrtTensor> = {}
    for (const [name, t] of Object.entries(feeds))
      fed[name] = t instanceof OrtDeviceTensor ? t.inner : toOrt(OrtTensor, t as Tensor, name)
    for (const name of Object.keys(wanted)) requireReadable(name, outputs)
    // the engine refuses a run without outputs
    if (Object.keys(wanted).length === 0) return {}
    await breathe()
    try {
      // what goes wrong comes as an error; the engine would log it to stderr besides, in colour
      return inner.run(fed, wanted, { logSeverityLevel: 4 })
    } catch (cause) {
      throw engineError(cause, 'could not run the model')
    }
  }
  return {
    inputNames: inner.inputMetadata.map((m) => m.name),
    outputNames,
    fallbacks,
    async run(feeds, fetch, into) {
      const wanted: Wanted = {}
      for (const name of fetch ?? outputNames) {
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
      return newestProfile(options.profilePrefix)
    },
    async dispose() {
      inner.dispose()
    },
  }
}

function requireReadable(name: string, outputs: ReadonlyMap<string, ElementType | undefined>): void {
  if (!outputs.has(name)) throw bugError(`the session has no output '${name}'`)
  const type = outputs.get(name)
  if (isReadable(type)) return
  const what = `output '${name}' is ${type ? `of type ${type}` : 'not a tensor'}, which onnxruntime for Node.js cannot return`
  throw modelError('unreadable-output', what, { next: type ? 'put a Cast to float32 after it' : undefined })
}

export interface OutputType {
  readonly name: string
  readonly elem: ElementType
  /** Empty also where the rank is unknown. */
  readonly dims: readonly Dim[]
}

/** Types and shapes of a model's outputs as onnxruntime sees them, whatever their element type; tensors only. */
export async function outputTypes(bytes: Uint8Array): Promise<OutputType[]> {
  const inner = await create(bytes, { graphOptimizationLevel: 'disabled', logSeverityLevel: 4 })
  try {
    return inner.outputMetadata.flatMap((m) => {
      const elem = elementOf(m)
      return elem
        ? [{ name: m.name, elem, dims: m.shape.map((d, i) => (d >= 0 ? d : m.symbolicDimensions[i] || null)) }]
        : []
    })
  } finally {
    inner.dispose()
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

/** The engine names the file <prefix>_<date>.json and does not return the name: the newest one. */
export function newestProfile(prefix: string): string | undefined {
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

/** A tensor as the engine takes it; `name`: of what it is fed to. */
export function toOrt(OrtTensorClass: typeof OrtTensor, t: Tensor, name: string): OrtTensor {
  if (!viewable.has(t.type)) throw usageError(`'${name}' has type ${t.type}, which cannot be fed to onnxruntime`)
  return new OrtTensorClass(t.type as Crossing, t.view(t.type as Crossing), t.dims)
}

export function fromOrt(t: OrtTensor): Tensor {
  if (t.type === 'string') {
    const parts = (t.data as string[]).map((s) => new TextEncoder().encode(s))
    return new Tensor('string', t.dims, Buffer.concat(parts))
  }
  return Tensor.of(t.type as ElementType, t.dims, t.data as TypedArray)
}

/** Engine messages are long and start with boilerplate; keep the part that says what is wrong. */
export function engineError(cause: unknown, what: string): MncError {
  const message = cause instanceof Error ? cause.message : String(cause)
  const short = message
    .replace(/^.*?\b(?:ORT_\w+|Exception during initialization|was false)[:.] ?/s, '')
    .split('\n')[0]!
  return new MncError(`onnxruntime ${what}: ${short}`, { code: 'engine', blame: 'model', cause })
}

const binaries = (): string =>
  join(
    dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json')),
    ...['bin', 'napi-v6', process.platform, process.arch],
  )

/** The path of the library that the binding loads; null where its name is not known. */
export function engineLibrary(): string | null {
  const path = join(binaries(), 'libonnxruntime.so.1')
  return existsSync(path) ? path : null
}

/** The library that contains a provider, if the package does not include it and it is not installed. */
export function missingLibrary(provider: string): string | null {
  const name = `onnxruntime_providers_${provider}`
  const file = process.platform === 'win32' ? `${name}.dll` : `lib${name}.so`
  return existsSync(join(binaries(), file)) ? null : file
}

/** The engine's version, the devices that come with it, and those that need libraries of their own. */
export async function engineInfo(): Promise<Record<'bundled' | 'external', readonly string[]> & { version: string }> {
  const { env, listSupportedBackends } = (await engine()).package
  const names = (bundled: boolean) =>
    listSupportedBackends()
      .filter((b) => b.bundled === bundled)
      .map((b) => b.name)
  return { version: env.versions.node ?? env.versions.common, bundled: names(true), external: names(false) }
}

/** The engine's version alone. */
export const engineVersion = async (): Promise<string> => {
  const { env } = (await engine()).package
  return env.versions.node ?? env.versions.common
}
