/** Runs graphs. The only view of an engine that the layers above have. */
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'

export interface DeviceInfo {
  /** cpu, webgpu, cuda, tfjs:wasm, ... as `--device` takes it. */
  readonly id: string
  /** For people: engine, version, hardware. */
  readonly description: string
}

export interface LoadOptions {
  /**
   * A training step: weights are inputs. The engine may be given a rewritten copy that suits its kernels; in and outputs
   * stay the same.
   */
  readonly step?: boolean
  /** onnxruntime's graph optimisation level; 'all' by default. */
  readonly optimization?: 'disabled' | 'basic' | 'extended' | 'all'
  /** Engine-specific session settings (onnxruntime session config entries). */
  readonly config?: Readonly<Record<string, string>>
  readonly threads?: number
  /** The engine reports failing nodes by its error only, not on stderr: for runs that are tries. */
  readonly quiet?: boolean
  /** Writes the optimised model there (onnxruntime). */
  readonly optimizedModelPath?: string
  /** Prefix of the engine's profile file; profiling is off without it. */
  readonly profilePrefix?: string
  /** Folder that external data paths are relative to. */
  readonly folder?: string
}

export interface Session {
  readonly inputNames: readonly string[]
  readonly outputNames: readonly string[]
  /**
   * Feeds by input name; results by output name, only `fetch` where given. A tensor in `into` receives that output in
   * its own memory (which must not be fed in the same call).
   */
  run(
    feeds: Readonly<Record<string, Tensor>>,
    fetch?: readonly string[],
    into?: Readonly<Record<string, Tensor>>,
  ): Promise<Record<string, Tensor>>
  /** Ends profiling; the path of the profile, where one was asked for. */
  endProfiling(): string | undefined
  dispose(): Promise<void>
}

export interface Executor {
  readonly device: DeviceInfo
  load(model: Model | Uint8Array | string, options?: LoadOptions): Promise<Session>
}
