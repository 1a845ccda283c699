/**
 * A step's state in the device's memory: what the next step reads, and what the last one wrote until it is committed or
 * discarded. The host has a copy only when it asks for one.
 */
import { bugError } from '../errors.ts'
import type { Tensor } from '../graph/tensor.ts'
import type { DeviceTensor } from '../runtime/executor.ts'

type Tensors = Readonly<Record<string, DeviceTensor>>

export class DeviceState {
  readonly #upload: (t: Tensor) => Promise<DeviceTensor>
  #now: Tensors = {}
  #next: Tensors = {}

  constructor(upload: (t: Tensor) => Promise<DeviceTensor>) {
    this.#upload = upload
  }

  get now(): Tensors {
    return this.#now
  }

  /** Replaces all of the present state. */
  async load(tensors: Readonly<Record<string, Tensor>>): Promise<void> {
    this.dispose()
    const now: Record<string, DeviceTensor> = {}
    for (const [name, t] of Object.entries(tensors)) now[name] = await this.#upload(t)
    this.#now = now
  }

  /** Takes a step's outputs `next_<name>`. */
  offer(kept: Tensors): void {
    free(this.#next)
    this.#next = Object.fromEntries(Object.keys(this.#now).map((name) => [name, kept[`next_${name}`] ?? missing(name)]))
  }

  commit(): void {
    free(this.#now)
    this.#now = this.#next
    this.#next = {}
  }

  discard(): void {
    free(this.#next)
    this.#next = {}
  }

  dispose(): void {
    free(this.#now)
    this.discard()
    this.#now = {}
  }
}

function free(tensors: Tensors): void {
  for (const t of Object.values(tensors)) t.dispose()
}

function missing(name: string): never {
  throw bugError(`the step did not keep 'next_${name}' on the device`)
}
