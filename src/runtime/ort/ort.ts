/**
 * The onnxruntime executor: models to sessions (ort-session.ts), training steps rewritten for the engine's kernels and
 * kept in its optimised form.
 */
import { encodeModel } from '../../codec/codec.ts'
import { cloneModel } from '../../graph/clone.ts'
import { requireInlinable } from '../../graph/function-size.ts'
import { nameByOrigin } from '../../graph/hints.ts'
import { Model } from '../../graph/model.ts'
import { useBlockedLayout } from '../../lowerings/blocked/index.ts'
import { mergeReshapes } from '../../lowerings/merge-reshapes.ts'
import { useNativeKernels } from '../../lowerings/native/index.ts'
import { STEP_DOMAIN } from '../../lowerings/native/operators.ts'
import { holdsHalf, roundHalf } from '../../lowerings/rounded-half.ts'
import type { Executor, LoadOptions, Session } from '../executor.ts'
import { foreignOperator } from '../foreign-operator.ts'
import { engineBytes } from '../isolated/engine-bytes.ts'
import { inferTypes } from '../isolated/infer-types.ts'
import { type NativeKernels, nativeKernels } from '../native/library.ts'
import { createNativeSession } from '../native/session.ts'
import { createSession, engineVersion, type ProviderExtras, type Providers } from '../ort-session.ts'
import { findBlock } from './find-block.ts'
import { SegmentedSession } from './segmented-session.ts'
import { SessionCache } from './session-cache.ts'
import { recomputeFirst, stepMemory, typeStep } from './step-memory.ts'

/** The executor of onnxruntime's CPU provider. For others see ort-provider.ts. */
export function ortExecutor(): Executor {
  return {
    device: { id: 'cpu', description: 'onnxruntime (cpu)' },
    exchanges: true,
    async load(model, options = {}) {
      if (!options.step || !(model instanceof Model)) return loadSession(model, options, ['cpu'])
      const { exchange, ...whole } = options
      // what ranks share is measured in standard operators
      const found = options.native === false || exchange ? null : await nativeKernels()
      const native = found && 'call' in found ? found : null
      const step = await suited(model, native !== null)
      if (options.recompute) {
        await typeStep(step)
        recomputeFirst(step, options.recompute)
      }
      if (options.profilePrefix !== undefined) nameByOrigin(step.graph)
      const given = options.recompute ? { ...options, config: { ...options.config, ...KEEP_REPEATED } } : options
      if (!exchange) return loadStep(step, given, native && step.opsets.has(STEP_DOMAIN) ? native : null)
      const alone = { ...whole, config: QUIET_THREADS }
      return SegmentedSession.load(step, exchange, (segment) => loadStep(segment, alone, null))
    },
    async stepMemory(model, { native = true }) {
      const step = await suited(model, native && 'call' in (await nativeKernels()))
      await typeStep(step)
      return stepMemory(step)
    },
    async nativeKernels() {
      const found = await nativeKernels()
      return 'call' in found ? found.instructions : null
    },
  }
}

/** Threads of one segment do not spin while another's compute. */
const QUIET_THREADS = { 'session.intra_op.allow_spinning': '0' }

/** What is computed again is not joined with what it repeats. */
const KEEP_REPEATED = { 'optimization.disable_specified_optimizers': 'CommonSubexpressionElimination' }

/** Below this, loading takes the engine about a second: DenseNet-BC-40-12 has 4,400 nodes, DenseNet-BC-100-12 17,700. */
const LARGE_STEP_NODES = 8000

/** A step's session: made from the cached result of the engine's optimiser for the same step, if there is one. */
async function loadStep(step: Model, options: LoadOptions, native: NativeKernels | null): Promise<Session> {
  const load = async (bytes: Uint8Array, o: LoadOptions): Promise<Session> =>
    native ? createNativeSession(native, bytes, namesOf(step), o) : createSession(bytes, o, ['cpu'])
  const plainly = async (): Promise<Session> =>
    native ? load(encodeModel(step), options) : loadSession(step, options, ['cpu'])
  const whole = !options.optimization || options.optimization === 'all'
  if (!options.cache || !whole || step.graph.nodeCount < LARGE_STEP_NODES) return plainly()
  const cache = new SessionCache(options.cache)
  const bytes = encodeModel(step)
  const key = cache.key(bytes, `onnxruntime ${await engineVersion()}, blocks of ${await blockOfEngine()}`)
  const kept = await cache.find(key)
  if (kept) {
    try {
      return await load(kept, { ...options, optimization: 'disabled' })
    } catch {
      await cache.drop(key)
    }
  }
  const path = await cache.begin()
  if (!path) return plainly()
  try {
    const session = await load(bytes, { ...options, optimizedModelPath: path })
    await cache.keep(key, path)
    return session
  } catch {
    await cache.abandon(path)
    return plainly()
  }
}

const namesOf = ({ graph }: Model) => ({
  inputs: graph.inputs.map((v) => v.name),
  outputs: graph.outputs.map((v) => v.name),
})

/** A session of the providers named, the first that has a kernel for a node first. */
export async function loadSession(
  given: Model | Uint8Array | string,
  options: LoadOptions,
  providers: Providers,
  extras: ProviderExtras = {},
): Promise<Session> {
  if (!(given instanceof Model)) return createSession(given, options, providers, extras)
  requireInlinable(given)
  try {
    return await createSession(engineBytes(given, options), options, providers, extras)
  } catch (error) {
    throw foreignOperator(given) ?? error
  }
}

let channelBlock: Promise<number> | undefined
const blockOfEngine = (): Promise<number> => {
  channelBlock ??= findBlock((model) => loadSession(model, { threads: 1 }, ['cpu']))
  return channelBlock
}

/** A copy of a training step for the engine's own kernels. */
async function suited(step: Model, native: boolean): Promise<Model> {
  if (holdsHalf(step)) {
    const copy = cloneModel(step)
    await inferTypes(copy)
    roundHalf(copy)
    return copy
  }
  const block = await blockOfEngine()
  const copy = cloneModel(step)
  if (native) useNativeKernels(copy)
  if (block > 0) useBlockedLayout(copy, block, copy.graph.nodes(), native)
  mergeReshapes(copy.graph)
  return copy
}
