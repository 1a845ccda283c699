/** What an operator's TensorFlow.js form is given, and helpers that the families share. */
import type { Tensor as TfTensor } from '@tensorflow/tfjs-core'
import type { Node } from '../../graph/graph.ts'
import type { ElementType } from '../../graph/types.ts'

export type Tf = typeof import('@tensorflow/tfjs-core')
export type { TfTensor }

export interface KernelCall {
  readonly tf: Tf
  readonly node: Node
  /** Inputs on the device; undefined where left out. */
  readonly x: readonly (TfTensor | undefined)[]
}

/** Runs within tf.tidy; the outputs are new tensors or inputs. */
export type Kernel = (call: KernelCall) => TfTensor | readonly TfTensor[]

/** Kernels of a family by operator. */
export type KernelTable = Readonly<Record<string, Kernel>>

export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i)
export const product = (a: readonly number[]): number => a.reduce((p, d) => p * d, 1)
export const wrapAxis = (a: number, rank: number): number => (a < 0 ? a + rank : a)

/** Sizes of the first output from axis `from` on: inference knows them, also where the batch is open. */
export function outputSizes(node: Node, from: number): number[] {
  return (node.output.type?.dims ?? []).slice(from).map((d) => {
    if (typeof d !== 'number') throw new NotCovered('the size of its output is dynamic')
    return d
  })
}

/** Thrown by a kernel that does not cover a node; the session then runs it elsewhere. */
export class NotCovered extends Error {}

/** A constant input as numbers; null where it is left out. Shapes, axes and pads must be constants. */
export function constantInts({ node }: KernelCall, i: number): number[] | null {
  const v = node.inputs[i]
  if (!v) return null
  if (!v.constant) throw new NotCovered(`input ${i} is not constant`)
  return Array.from(v.constant.toNumbers())
}

/** TensorFlow.js has three types that matter; elements are exact in them up to 2^31 and float32. */
export const tfTypeOf = (type: ElementType): 'float32' | 'int32' | 'bool' =>
  type.startsWith('float') || type === 'bfloat16' ? 'float32' : type === 'bool' ? 'bool' : 'int32'

/** Takes `index` along an axis. */
export const take = (tf: Tf, x: TfTensor, axis: number, index: readonly number[]): TfTensor =>
  tf.gather(x, tf.tensor1d([...index], 'int32'), axis)

/** [C] as [C, 1, 1, ...], to meet a tensor [N, C, ...] of that rank. */
export const perChannel = (tf: Tf, v: TfTensor, rank: number): TfTensor =>
  tf.reshape(v, [v.size, ...Array<number>(Math.max(0, rank - 2)).fill(1)])

/** Axes 2, 3, ... */
export const spatialAxes = (rank: number): number[] => range(rank - 2).map((i) => i + 2)
