/**
 * The TensorFlow.js executor: interprets a graph on tensors that lie on the device (tfjs/session.ts). A graph of a
 * training step holds its backward pass, so backends without gradient kernels train, too. What an operator's kernel does
 * not cover is found as for onnxruntime's providers, by comparing each kind of node with onnxruntime's CPU provider
 * (ort-placement.ts); the same lowerings apply.
 */
import { decodeModel, readModel } from '../../codec/codec.ts'
import { cloneModel } from '../../graph/clone.ts'
import { Model } from '../../graph/model.ts'
import type { Executor } from '../executor.ts'
import { inferTypes } from '../isolated/infer-types.ts'
import { type LoadAlone, suitedTo } from '../ort/ort-placement.ts'
import { openBackend } from './backends.ts'
import { TfSession } from './session.ts'
import { TfDeviceTensor, toDevice } from './values.ts'

/** The opset that the kernels are written for. */
const OPSET = 21

const nothing = { onCpu: new Set<never>(), fallbacks: [], keep: [] } as const

export async function tfjsExecutor(backend?: string): Promise<Executor> {
  const open = await openBackend(backend)
  const { id, name, tf } = open
  const only: LoadAlone = async (model) => {
    const typed = cloneModel(model)
    await inferTypes(typed)
    return new TfSession(open, typed, nothing)
  }
  const named = backend === undefined ? ', chosen by --device tfjs' : ''
  return {
    device: { id: `tfjs:${id}`, description: `TensorFlow.js ${tf.version_core} (${id})${named}` },
    opset: OPSET,
    // its tensors have no such type
    float16: async () => false,
    async upload(t) {
      if (tf.getBackend() !== name) await tf.setBackend(name)
      return new TfDeviceTensor(toDevice(tf, t, 'state'), t.type)
    },
    async load(model, options = {}) {
      const given =
        model instanceof Model ? model : typeof model === 'string' ? await readModel(model) : decodeModel(model)
      const { suited, fallbacks, onCpu } = await suitedTo(given, only)
      const names = new Set(onCpu)
      const nodes = new Set([...suited.graph.nodes()].filter((n) => names.has(n.name)))
      return new TfSession(open, suited, { onCpu: nodes, fallbacks, keep: options.keep ?? [] })
    },
  }
}
