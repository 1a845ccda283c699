/**
 * A step's state in the device's memory: what the step began with, and what its runs have turned it into until that is
 * committed or discarded. The host has a copy only when it asks for one.
 */
import { bugError } from '../../base/errors.ts'
import { Tensor } from '../../graph/tensor.ts'
import type { DeviceTensor } from '../../runtime/executor.ts'

export class DeviceState {
  readonly #upload: (t: Tensor) => Promise<DeviceTensor>
  #now = new Map<string, DeviceTensor>()
  /** What runs of the current step have written. */
  readonly #next = new Map<string, DeviceTensor>()

  constructor(upload: (t: Tensor) => Promise<DeviceTensor>) {
    this.#upload = upload
  }

  /** The state before the current step. */
  get now(): Readonly<Record<string, DeviceTensor>> {
    return Object.fromEntries(this.#now)
  }

  /** The state that the step's next run reads. */
  get next(): Readonly<Record<string, DeviceTensor>> {
    return { ...this.now, ...Object.fromEntries(this.#next) }
  }

  /** Replaces all of the present state. */
  async load(tensors: Readonly<Record<string, Tensor>>): Promise<void> {
    this.dispose()
    for (const [name, t] of Object.entries(tensors)) this.#now.set(name, await this.#upload(t))
  }

  /** Takes a run's outputs `next_<name>`. */
  offer(kept: Readonly<Record<string, DeviceTensor>>): void {
    for (const [output, t] of Object.entries(kept)) this.#write(output.replace(/^next_/, ''), t)
  }

  /** Zeros. */
  async reset(name: string): Promise<void> {
    const { dims } = this.#now.get(name) ?? missing(name)
    this.#write(name, await this.#upload(Tensor.float32(dims, new Float32Array(dims.reduce((a, b) => a * b, 1)))))
  }

  #write(name: string, t: DeviceTensor): void {
    if (!this.#now.has(name)) missing(name)
    this.#next.get(name)?.dispose()
    this.#next.set(name, t)
  }

  commit(): void {
    for (const [name, t] of this.#next) {
      this.#now.get(name)?.dispose()
      this.#now.set(name, t)
    }
    this.#next.clear()
  }

  discard(): void {
    for (const t of this.#next.values()) t.dispose()
    this.#next.clear()
  }

  dispose(): void {
    this.discard()
    for (const t of this.#now.values()) t.dispose()
    this.#now.clear()
  }
}

function missing(name: string): never {
  throw bugError(`the step has no state '${name}' on the device`)
}
