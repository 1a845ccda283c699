/**
 * Stands in for runtime/isolated/engine.ts in a browser: models are run by onnxruntime-web, which the page gives (`useEngine`).
 * Its memory is its own, so that a model that breaks it breaks nothing else; there is no limit on time. Without it every
 * answer is `probe-failed`, and callers go on without: shapes and MACs are then unknown.
 */
import { MncError, modelError } from '../base/errors.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import type { Dim, ElementType } from '../graph/types.ts'
import type { LoadOptions, Session } from '../runtime/executor.ts'
import { engineBytes } from '../runtime/isolated/engine-bytes.ts'
import { engineError, fromOrt, type OutputType, toOrt } from '../runtime/ort-session.ts'

/** What is used of the module onnxruntime-web, whose types are those of onnxruntime-node. */
export type WebEngine = Pick<typeof import('onnxruntime-node'), 'InferenceSession' | 'Tensor'>

let engine: WebEngine | null = null

/** From now on models are run by this module, say what `import * as ort from 'onnxruntime-web'` gives. */
export function useEngine(module: WebEngine): void {
  engine = module
}

export const isProbeFailure = (error: unknown): boolean => error instanceof MncError && error.code === 'probe-failed'

export function startProbing(): void {}

export const peakMemory = async (): Promise<null> => null

async function create(model: Model, { optimization = 'all', asWritten }: LoadOptions) {
  if (!engine) throw modelError('probe-failed', 'there is no engine to run models with', { next: 'useEngine(ort)' })
  const bytes = engineBytes(model, { optimization, ...(asWritten !== undefined && { asWritten }) })
  try {
    return await engine.InferenceSession.create(bytes, {
      ...{ executionProviders: ['wasm'], graphOptimizationLevel: optimization, logSeverityLevel: 4 },
    })
  } catch (cause) {
    throw engineError(cause, 'refuses the model')
  }
}

export async function isolatedTypes(model: Model): Promise<readonly OutputType[]> {
  const session = await create(model, { optimization: 'disabled' })
  const types = session.outputMetadata.flatMap((m) =>
    m.isTensor ? [{ name: m.name, elem: m.type as ElementType, dims: m.shape.map(dimOf) }] : [],
  )
  await session.release()
  return types
}

/** An unknown dim is -1, which WebAssembly gives as 2^32 - 1. */
const dimOf = (d: number | string): Dim => (d === '' || (typeof d === 'number' && !(d >= 0 && d < 2 ** 31)) ? null : d)

export type IsolatedSession = Pick<Session, 'outputNames' | 'run' | 'dispose'>

export async function loadIsolated(model: Model, options: LoadOptions = {}): Promise<IsolatedSession> {
  const session = await create(model, options)
  return {
    outputNames: session.outputNames,
    async run(feeds, fetch) {
      const fed = Object.entries(feeds).map(([name, t]) => [name, toOrt(engine!.Tensor, t as Tensor, name)])
      const out = await session.run(Object.fromEntries(fed), fetch ?? session.outputNames)
      return Object.fromEntries(Object.entries(out).map(([name, t]) => [name, fromOrt(t)]))
    },
    dispose: () => session.release(),
  }
}
