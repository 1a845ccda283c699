/** Runs graphs: the only interface to an engine that the rooms above see. */
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'

/** A device that models run on. */
export interface DeviceInfo {
  /** cpu, webgpu, cuda, tfjs:wasm, ... as `--device` takes it. */
  readonly id: string
  /** For people: engine, version, hardware. */
  readonly description: string
}

/** A tensor in the device's own memory. */
export interface DeviceTensor {
  readonly dims: readonly number[]
  /** Copies it to the host. */
  read(): Promise<Tensor>
  /** Gives its memory back. */
  dispose(): void
}

/** Nodes of one operator that a session runs on the CPU, though its device is another. */
export interface Fallback {
  readonly op: string
  readonly nodes: number
  /** The engine's message. */
  readonly reason: string
}

/** How an engine loads a model. */
export interface LoadOptions {
  /**
   * A training step: weights are inputs. The engine may be given a rewritten copy that suits its kernels; inputs and
   * outputs stay the same.
   */
  readonly step?: boolean
  /** false: a training step runs on standard operators, even where there are native kernels. */
  readonly native?: boolean
  /** So many activations of a training step are computed again rather than kept (StepMemory). */
  readonly recompute?: number | undefined
  /**
   * Replaces numbers by their means over the processes that train together, wherever the step says that they are to be
   * exchanged (graph/hints.ts). Only where the executor `exchanges`.
   */
  readonly exchange?: ((values: Float64Array) => void | Promise<void>) | undefined
  /** Folder for large training steps as the engine optimised them (session-cache.ts); without it they are not kept. */
  readonly cache?: string | undefined
  /** onnxruntime's graph optimisation level; 'all' by default. */
  readonly optimization?: 'disabled' | 'basic' | 'extended' | 'all'
  /** Engine-specific session settings (onnxruntime session config entries). */
  readonly config?: Readonly<Record<string, string>>
  readonly threads?: number
  /** The engine reports failing nodes by its error only, not on stderr: for runs that are trials. */
  readonly quiet?: boolean
  /** The engine is given the model as it is written, whatever it would compute of it: to learn whether it loads. */
  readonly asWritten?: boolean
  /** Writes the optimised model there (onnxruntime). */
  readonly optimizedModelPath?: string
  /** Prefix of the engine's profile file; profiling is off without it. */
  readonly profilePrefix?: string
  /** Outputs that stay on the device; `runKept` returns them. Only where the executor has `upload`. */
  readonly keep?: readonly string[]
}

export interface KeptOutputs {
  /** Outputs that were fetched to the host. */
  readonly read: Readonly<Record<string, Tensor>>
  /** Those that stay on the device. They are the caller's to dispose. */
  readonly kept: Readonly<Record<string, DeviceTensor>>
}

/** A model that is loaded. */
export interface Session {
  readonly inputNames: readonly string[]
  readonly outputNames: readonly string[]
  /** What runs on the CPU, though the device is another. */
  readonly fallbacks: readonly Fallback[]
  /** The instruction set of the native kernels that it has. */
  readonly native?: string
  /**
   * Feeds by input name; results by output name, only `fetch` where given. A tensor in `into` receives that output in
   * its own memory (which must not be fed in the same call).
   */
  run(
    feeds: Readonly<Record<string, Tensor>>,
    fetch?: readonly string[],
    into?: Readonly<Record<string, Tensor>>,
  ): Promise<Record<string, Tensor>>
  /** The same with inputs and outputs (LoadOptions.keep) that stay on the device. */
  runKept(feeds: Readonly<Record<string, Tensor | DeviceTensor>>, fetch: readonly string[]): Promise<KeptOutputs>
  /** Ends profiling; the path of the profile, where one was asked for. */
  endProfiling(): string | undefined
  dispose(): Promise<void>
}

/** What the runs of a training step take of the process's memory. */
export interface StepMemory {
  /** Those that can be computed again when the backward pass reads them, rather than kept. */
  readonly activations: number
  /** At the peak, with the `count` of them computed again that free most for the least work. */
  bytes(count: number): number
}

/** An engine on a device, which loads models. */
export interface Executor {
  readonly device: DeviceInfo
  /**
   * The one opset whose operators it knows, where it does not know all: models are to be upgraded to it, and their
   * quantisers lowered to float arithmetic.
   */
  readonly opset?: number
  /** The native kernels that steps are given, in words; null where there are none. Absent: it knows none. */
  readonly nativeKernels?: () => Promise<string | null>
  /** Where tensors can stay on the device between runs: copies one there. */
  readonly upload?: (tensor: Tensor) => Promise<DeviceTensor>
  /** Where LoadOptions.recompute is taken: what a step will need. */
  readonly stepMemory?: (step: Model, options: Pick<LoadOptions, 'native'>) => Promise<StepMemory>
  /** Whether it takes LoadOptions.exchange. */
  readonly exchanges?: boolean
  /** Whether it computes in float16; absent: it does, in its own way. */
  readonly float16?: () => Promise<boolean>
  load(model: Model | Uint8Array | string, options?: LoadOptions): Promise<Session>
}
