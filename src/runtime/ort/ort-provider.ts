/**
 * Executors of onnxruntime's other execution providers (webgpu, cuda, dml, coreml). A model is first rewritten for what
 * the provider runs (ort-placement.ts asks it, provider-lowerings.ts knows the rewrites); what is then still refused
 * runs on the CPU and is listed. State can stay in the provider's memory between runs where the binding has buffers for
 * it (webgpu).
 */
import { Graph } from '../../graph/graph.ts'
import { Model } from '../../graph/model.ts'
import { Tensor } from '../../graph/tensor.ts'
import type { DeviceTensor, Executor, LoadOptions, Session } from '../executor.ts'
import { loadSession } from './ort.ts'
import { suitedTo } from './ort-placement.ts'

/** Models are upgraded to it: fewer old forms to find kernels for, and quantisers in float arithmetic. */
const OPSET = 21

/** Providers whose buffers the node binding can hand out. */
const KEEPS_TENSORS: ReadonlySet<string> = new Set(['webgpu'])

/** No node may go to the CPU. */
const ALONE: LoadOptions = { config: { 'session.disable_cpu_ep_fallback': '1' }, quiet: true }

export function providerExecutor(provider: string, description: string): Executor {
  const only = (model: Model, options: LoadOptions = {}): Promise<Session> =>
    loadSession(model, { ...options, ...ALONE }, [provider])

  let copies: { up: Session; down: Session } | undefined
  const copiers = async () => {
    copies ??= {
      up: await loadSession(copy(), { keep: ['y'] }, [provider, 'cpu'], { download }),
      down: await loadSession(copy(), {}, [provider, 'cpu']),
    }
    return copies
  }
  const download = async (t: DeviceTensor): Promise<Tensor> => {
    const { read } = await (await copiers()).down.runKept({ x: t }, ['y'])
    return read.y!
  }

  return {
    device: { id: provider, description },
    opset: OPSET,
    ...(KEEPS_TENSORS.has(provider) && {
      async upload(tensor: Tensor): Promise<DeviceTensor> {
        const { kept } = await (await copiers()).up.runKept({ x: tensor }, ['y'])
        return kept.y!
      },
    }),
    async float16() {
      try {
        const session = await only(sum16())
        await session.run({ x: Tensor.from('float16', [2], [1, 2]) })
        await session.dispose()
        return true
      } catch {
        return false
      }
    },
    async load(model, options = {}) {
      if (!(model instanceof Model)) return loadSession(model, options, [provider, 'cpu'])
      const { suited, fallbacks, onCpu } = await suitedTo(model, only)
      // a node with a kernel that refuses must be kept from it by name
      const first = onCpu.length > 0 && provider === 'webgpu' ? { name: provider, forceCpuNodeNames: onCpu } : provider
      return loadSession(suited, options, [first, 'cpu'], { fallbacks, download })
    },
  }
}

/** y = x, float32 of any shape. */
function copy(): Model {
  const model = new Model(new Graph('copy'))
  const x = model.graph.addInput('x', { elem: 'float32', dims: null })
  model.graph.addOutput(model.graph.append().op('Identity', [x], {}, { name: 'y' }))
  return model
}

/** y = x + x in float16. */
function sum16(): Model {
  const model = new Model(new Graph('sum16'), OPSET)
  const x = model.graph.addInput('x', { elem: 'float16', dims: [2] })
  model.graph.addOutput(model.graph.append().op('Add', [x, x], {}, { name: 'y' }))
  return model
}

/** A provider's device and its compiled shaders go with its last session; one that is never used keeps them. */
const kept = new Map<string, Session>()

/** Runs one addition on the provider alone; throws the engine's error if it cannot. */
export async function tryProvider(provider: string): Promise<void> {
  if (kept.has(provider)) return
  const model = new Model(new Graph('probe'))
  const x = model.graph.addInput('x', { elem: 'float32', dims: [2] })
  model.graph.addOutput(model.graph.append().op('Add', [x, x], {}, { name: 'y' }))
  const session = await loadSession(model, ALONE, [provider])
  await session.run({ x: Tensor.float32([2], [1, 2]) })
  kept.set(provider, session)
}
