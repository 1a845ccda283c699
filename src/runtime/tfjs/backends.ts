/**
 * Finds TensorFlow.js. Its packages are optional: installing one provides its backend, and nothing here downloads any.
 *
 *   tensorflow-gpu   @tensorflow/tfjs-node-gpu    CUDA
 *   tensorflow       @tensorflow/tfjs-node        TensorFlow's own CPU kernels
 *   webgpu           @tensorflow/tfjs-backend-webgpu with webgpu (Dawn)
 *   wasm             @tensorflow/tfjs-backend-wasm
 *   cpu              @tensorflow/tfjs-backend-cpu
 *
 * The last three also need @tensorflow/tfjs-core.
 */
import { createRequire } from 'node:module'
import { dirname, sep } from 'node:path'
import { MncError, usageError } from '../../base/errors.ts'
import { nearest } from '../../base/options.ts'
import type { Tf } from './kernel.ts'

const require = createRequire(import.meta.url)
const CORE = '@tensorflow/tfjs-core'

interface Backend {
  readonly packages: readonly string[]
  /** Its name in TensorFlow.js. */
  readonly name: string
  /** Loads it and makes it ready; returns TensorFlow.js. */
  open(): Promise<Tf>
}

/** The best first. */
const backends: Readonly<Record<string, Backend>> = {
  'tensorflow-gpu': bound('@tensorflow/tfjs-node-gpu'),
  tensorflow: bound('@tensorflow/tfjs-node'),
  webgpu: {
    packages: [CORE, '@tensorflow/tfjs-backend-webgpu', 'webgpu'],
    name: 'webgpu',
    async open() {
      const dawn = (await import(packageName('webgpu'))) as { create(flags: string[]): unknown; globals: object }
      Object.assign(globalThis, dawn.globals)
      Object.defineProperty(navigatorObject(), 'gpu', { value: dawn.create([]) })
      require('@tensorflow/tfjs-backend-webgpu')
      return core()
    },
  },
  wasm: {
    packages: [CORE, '@tensorflow/tfjs-backend-wasm'],
    name: 'wasm',
    async open() {
      const wasm = require('@tensorflow/tfjs-backend-wasm') as { setWasmPaths(folder: string): void }
      wasm.setWasmPaths(dirname(require.resolve('@tensorflow/tfjs-backend-wasm')) + sep)
      return core()
    },
  },
  cpu: {
    packages: [CORE, '@tensorflow/tfjs-backend-cpu'],
    name: 'cpu',
    async open() {
      require('@tensorflow/tfjs-backend-cpu')
      return core()
    },
  },
}

function bound(name: string): Backend {
  return { packages: [name], name: 'tensorflow', open: async () => require(name) as Tf }
}

const core = (): Tf => require(CORE) as Tf

/** Keeps the compiler from looking for packages that are not installed. */
const packageName = (name: string): string => name

/** Node 20 has none. */
function navigatorObject(): object {
  const known: unknown = Reflect.get(globalThis, 'navigator')
  if (typeof known === 'object' && known !== null) return known
  const navigator = {}
  Object.defineProperty(globalThis, 'navigator', { value: navigator, configurable: true })
  return navigator
}

const isInstalled = (name: string): boolean => {
  try {
    require.resolve(name)
    return true
  } catch {
    return false
  }
}

export const installedBackends = (): string[] =>
  Object.keys(backends).filter((id) => backends[id]!.packages.every(isInstalled))

export interface OpenBackend {
  /** As `--device tfjs:ID` names it. */
  readonly id: string
  /** As TensorFlow.js names it. */
  readonly name: string
  readonly tf: Tf
}

const opened = new Map<string, Promise<OpenBackend>>()

/** TensorFlow.js on the backend named, or on the best that is installed and works. */
export async function openBackend(wanted: string | undefined): Promise<OpenBackend> {
  if (wanted === undefined) return bestBackend()
  const backend = backends[wanted]
  const known = Object.keys(backends)
  if (!backend) {
    const near = nearest(wanted, known)
    throw usageError(
      `TensorFlow.js has no backend '${wanted}'${near ? `, did you mean '${near}'?` : ''}`,
      known.join(', '),
    )
  }
  const missing = backend.packages.filter((p) => !isInstalled(p))
  if (missing.length > 0)
    throw usageError(`--device tfjs:${wanted} needs ${missing.join(' and ')}`, `npm install ${missing.join(' ')}`)
  const open = opened.get(wanted) ?? start(wanted, backend)
  opened.set(wanted, open)
  return open
}

async function start(id: string, backend: Backend): Promise<OpenBackend> {
  try {
    const tf = await backend.open()
    if (!(await tf.setBackend(backend.name)))
      throw new MncError('it does not start', { code: 'no-device', blame: 'user' })
    await tf.ready()
    tf.env().set('IS_TEST', true) // no advertising on the console
    return { id, name: backend.name, tf }
  } catch (cause) {
    const why = cause instanceof Error ? cause.message.split('\n')[0] : String(cause)
    throw new MncError(`--device tfjs:${id} does not work here: ${why}`, { code: 'no-device', blame: 'user', cause })
  }
}

async function bestBackend(): Promise<OpenBackend> {
  const installed = installedBackends()
  let last: unknown
  for (const id of installed) {
    try {
      return await openBackend(id)
    } catch (error) {
      last = error
    }
  }
  if (last) throw last
  throw usageError(
    '--device tfjs needs TensorFlow.js, which is not installed',
    'npm install @tensorflow/tfjs-node-gpu, or @tensorflow/tfjs-core with @tensorflow/tfjs-backend-wasm',
  )
}
