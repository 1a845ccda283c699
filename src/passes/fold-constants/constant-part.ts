/**
 * The part of a model that depends on constants only, as a model of its own: how large its values would be, and what they
 * are, by onnxruntime in a separate process. Sizes come first and are inferred, since 170 bytes can stand for 16 GB.
 */
import { cloneNode, type ValueMap } from '../../graph/clone.ts'
import { Graph, type Node, type Value } from '../../graph/graph.ts'
import { Model } from '../../graph/model.ts'
import type { Tensor } from '../../graph/tensor.ts'
import { type ElementType, sizeInBytes } from '../../graph/types.ts'
import { loadIsolated } from '../../runtime/isolated/engine.ts'
import { inferTypes } from '../../runtime/isolated/infer-types.ts'

export class ConstantPart {
  readonly #model: Model
  readonly #nodes: ReadonlySet<Node>
  readonly #elem = new Map<Value, ElementType>()
  readonly #bytes = new Map<Value, number>()

  /** `nodes` in graph order, computed from constants and from each other. */
  constructor(model: Model, nodes: ReadonlySet<Node>) {
    this.#model = model
    this.#nodes = nodes
  }

  /** Infers sizes; what is known about them without computing is then in `bytes`. */
  async infer(): Promise<void> {
    const map: ValueMap = new Map()
    await inferTypes(this.#copy(this.values(), map))
    for (const v of this.values()) {
      const type = map.get(v)?.type
      if (!type) continue
      this.#elem.set(v, type.elem)
      const bytes = sizeInBytes(type)
      if (bytes !== null) this.#bytes.set(v, bytes)
    }
  }

  values(): Value[] {
    return [...this.#nodes].flatMap((n) => n.outputs.filter((v) => v !== null))
  }

  /** null where only computing would tell. */
  bytes(v: Value): number | null {
    return this.#bytes.get(v) ?? null
  }

  /** Computes the values for their sizes, which `bytes` then returns. */
  async measure(values: readonly Value[]): Promise<void> {
    const map: ValueMap = new Map()
    const part = this.#copy(values, map)
    const b = part.graph.append()
    const shapes = new Map(values.map((v) => [v, b.op('Shape', [map.get(v)!])]))
    const seen = await run(part, [...shapes.values()])
    for (const [v, shape] of shapes) {
      const dims = Array.from(seen[shape.name]!.toNumbers())
      this.#bytes.set(v, sizeInBytes({ elem: this.#elem.get(v) ?? 'float64', dims })!)
    }
  }

  /** Contents of values; those of types that cannot be read from onnxruntime are not among them. */
  async evaluate(values: readonly Value[]): Promise<Map<Value, Tensor>> {
    if (values.length === 0) return new Map()
    const map: ValueMap = new Map()
    const out = await run(
      this.#copy(values, map),
      values.map((v) => map.get(v)!),
    )
    return new Map(
      values.flatMap((v) => {
        const tensor = out[map.get(v)!.name]
        return tensor ? [[v, tensor] as const] : []
      }),
    )
  }

  /** The nodes that compute the values. */
  #copy(values: readonly Value[], map: ValueMap): Model {
    const { irVersion, folder, opsets } = this.#model
    const part = new Model(new Graph('constants'))
    Object.assign(part, { irVersion, folder })
    part.opsets.clear()
    for (const [domain, version] of opsets) part.opsets.set(domain, version)
    const needed = new Set(values.flatMap((v) => v.producer ?? []))
    for (const n of [...this.#nodes].reverse())
      if (needed.has(n)) for (const v of n.inputs) if (v?.producer) needed.add(v.producer)
    for (const n of this.#nodes) {
      if (!needed.has(n)) continue
      for (const v of n.inputs)
        if (v?.constant && !map.has(v)) map.set(v, part.graph.addInitializer(v.name, v.constant))
      cloneNode(n, part.graph, map)
    }
    return part
  }
}

async function run(part: Model, outputs: readonly Value[]): Promise<Record<string, Tensor>> {
  for (const v of outputs) part.graph.addOutput(v)
  const session = await loadIsolated(part, { optimization: 'disabled' })
  try {
    return await session.run({})
  } finally {
    await session.dispose()
  }
}
