/** Tensors between the host and TensorFlow.js. */
import { usageError } from '../../base/errors.ts'
import { Tensor } from '../../graph/tensor.ts'
import { type ElementType, elementTypes } from '../../graph/types.ts'
import type { DeviceTensor } from '../executor.ts'
import { type Tf, type TfTensor, tfTypeOf } from './kernel.ts'

export function toDevice(tf: Tf, t: Tensor, name: string): TfTensor {
  if (t.type === 'string' || t.type.startsWith('complex'))
    throw usageError(`'${name}' has type ${t.type}, which TensorFlow.js does not support`)
  const type = tfTypeOf(t.type)
  const numbers = t.toNumbers()
  // a copy: the CPU backend keeps the very array, and the caller may write to it
  if (type === 'float32') return tf.tensor(Float32Array.from(numbers), [...t.dims], type)
  return tf.tensor(type === 'bool' ? Uint8Array.from(numbers) : Int32Array.from(numbers), [...t.dims], type)
}

export async function toHost(t: TfTensor, type: ElementType): Promise<Tensor> {
  const data = await t.data()
  if (type === 'float32') return Tensor.float32(t.shape, Float32Array.from(data))
  return Tensor.from(elementTypes[type].bits < 8 ? 'int32' : type, t.shape, data)
}

export class TfDeviceTensor implements DeviceTensor {
  readonly inner: TfTensor
  readonly #type: ElementType

  constructor(inner: TfTensor, type: ElementType) {
    this.inner = inner
    this.#type = type
  }

  get dims(): readonly number[] {
    return this.inner.shape
  }

  read(): Promise<Tensor> {
    return toHost(this.inner, this.#type)
  }

  dispose(): void {
    if (!this.inner.isDisposed) this.inner.dispose()
  }
}
