/**
 * Shapes that inference leaves open and that are the same on any data: an exporter's shape arithmetic that goes through a
 * branch, a loop, or values of the data themselves. The model is run on two sets of inputs; where a node's output is open
 * although its inputs are not, the operands that decide its shape (at most RANK elements, not the first one) become
 * constants if both runs have the same ones, else its output is pinned: a Reshape to the shape that both runs saw.
 *
 * Does not apply to what differs between the runs: that depends on the data, and stays open.
 */
import { cloneModel } from '../../graph/clone.ts'
import type { Graph, Node, Value } from '../../graph/graph.ts'
import { pinShape } from '../../graph/hints.ts'
import type { Model } from '../../graph/model.ts'
import type { Tensor } from '../../graph/tensor.ts'
import { isStatic } from '../../graph/types.ts'

/** All outputs of a model, on two sets of inputs. */
export type Watch = (model: Model) => Promise<readonly Readonly<Record<string, Tensor>>[]>

/** Axes, sizes, scales, starts and ends have one element per dim; pads have two. */
const RANK = 16

export class SeenShapes {
  readonly #watch: Watch
  #constants: ReadonlyMap<string, Tensor> | null = null
  #shapes: ReadonlyMap<string, Tensor> = new Map()

  constructor(watch: Watch) {
    this.#watch = watch
  }

  /** Settles what is open and reads nothing open; returns whether there was anything. Edits `model`. */
  async settle(model: Model): Promise<boolean> {
    const { graph } = model
    const open = [...graph.nodes()].filter((n) => n.outputs.some((v) => v && isOpen(v)))
    if (open.length === 0) return false
    if (!this.#constants) await this.#look(model, open)
    let changed = false
    for (const n of open) {
      if (n.inputs.some((v) => v && isOpen(v) && !this.#constants!.has(v.name))) continue
      if (this.#fixOperands(graph, n) || this.#pin(graph, n)) changed = true
    }
    return changed
  }

  /** Runs the model once for everything that may be needed. */
  async #look(model: Model, open: readonly Node[]): Promise<void> {
    const copy = cloneModel(model)
    const { graph } = copy
    for (const v of [...graph.outputs]) graph.removeOutput(v)
    const b = graph.append()
    const shapes = new Map<string, string>()
    for (const v of open.flatMap((n) => n.outputs))
      if (v && isOpen(v)) shapes.set(v.name, b.op('Shape', [graph.find(v.name)!]).name)
    const operands = new Set(open.flatMap((n) => n.inputs.slice(1)).flatMap((v) => (v && mayDecide(v) ? [v.name] : [])))
    for (const name of [...shapes.values(), ...operands]) graph.addOutput(graph.find(name)!)
    const [a, c] = await this.#watch(copy)
    const same = (name: string): Tensor | null => {
      const [x, y] = [a?.[name], c?.[name]]
      return x && y && x.equals(y) ? x : null
    }
    const agreed = (names: Iterable<readonly [string, string]>): Map<string, Tensor> =>
      new Map([...names].flatMap(([of, from]) => (same(from) ? [[of, same(from)!]] : [])))
    this.#shapes = agreed(shapes)
    this.#constants = agreed([...operands].map((name) => [name, name]))
  }

  #fixOperands(graph: Graph, n: Node): boolean {
    let changed = false
    n.inputs.forEach((v, i) => {
      const tensor = i > 0 && v && !v.constant ? this.#constants!.get(v.name) : undefined
      if (!tensor || tensor.size > RANK) return
      n.setInput(i, graph.append().initializer(`${v!.name}.seen`, tensor))
      changed = true
    })
    return changed
  }

  #pin(graph: Graph, n: Node): boolean {
    let changed = false
    for (const v of n.outputs) {
      const shape = v && isOpen(v) ? this.#shapes.get(v.name) : undefined
      const dims = shape && Array.from(shape.toNumbers())
      if (!dims || dims.includes(0)) continue // a Reshape takes 0 for the size that was there
      pinShape(v!, dims)
      changed = true
    }
    if (changed) graph.sort()
    return changed
  }
}

const isOpen = (v: Value): boolean => !v.constant && v.type !== null && !isStatic(v.type.dims)

/** A vector or scalar of known type, or a value that may be one. */
const mayDecide = (v: Value): boolean => !v.constant && v.type !== null && (v.type.dims?.length ?? 1) <= 1
