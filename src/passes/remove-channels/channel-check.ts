/**
 * Whether a model without some of its channels computes the same as before: one graph that contains the model as it was,
 * and next to it each node that became smaller, which reads the remaining channels of what the old model computes. So
 * errors do not add up over layers, and rounding that tips a quantiser to another level can neither hide a mistake nor be
 * taken for one.
 *
 *   |new - old|  <=  (8 sqrt(K) 2^-24 + 2 u) (|W| |x| + |b|, new and old)  +  least      layers; K products in a sum
 *   |new - old|  <=  (64 u + 2 v) |old| + 8 u max |old| + least                          all other nodes
 *
 * u is the rounding unit of the value's type, v that of the widest step among the values read (onnxruntime leaves out a
 * Cast to float16 and back), least its smallest number. The first bound is that of rounding errors of
 * sums, which grow with the root of their number (Higham and Mary, "A new approach to probabilistic rounding error
 * analysis", 2019); onnxruntime adds up in float32 at least. It knows the size of what is summed up, so neither sums that
 * cancel nor outputs that are small throughout need a tolerance of their own.
 *
 * Integers and booleans are not compared themselves; what is computed from them is.
 */
import { modelError } from '../../base/errors.ts'
import { leastOf, unitOf } from '../../channels/rounding.ts'
import type { Builder } from '../../graph/builder.ts'
import { cloneModel, cloneNode, type ValueMap } from '../../graph/clone.ts'
import type { Graph, Node, Value } from '../../graph/graph.ts'
import type { Model } from '../../graph/model.ts'
import { Tensor } from '../../graph/tensor.ts'
import { elementTypes } from '../../graph/types.ts'
import { channelSlot } from '../../ops/index.ts'
import { type Named, probe } from '../../samples/probe.ts'
import { lowerFakeQuant } from '../lower-fake-quant.ts'
import type { ChannelDecision } from './channel-decision.ts'

/** Rounding errors of sums stay below this many standard deviations. */
const DEVIATIONS = 8

/** A model error where a node of `after` differs by more than rounding explains. */
export async function checkChannels(after: Model, decision: ChannelDecision, feeds: Named): Promise<void> {
  const check = new ChannelCheck(after.graph, decision)
  const { model, compared } = check
  if (compared.size === 0) return
  // next to one-byte tensors of the same shape (the comparisons' here) 4-bit ones are written past their end: mixed-widths.ts
  await lowerFakeQuant.run(model, { learnScales: false }, { decline() {}, log() {}, seed: 0 })
  const [seen] = await probe(model, [feeds])
  for (const [output, node] of compared) {
    const excess = seen![output]!.item()
    if (!(excess <= 1))
      throw modelError(
        'channels-differ',
        `removing channels would change what ${node.label} computes, by ${excess.toPrecision(3)} times what rounding explains`,
        { node: node.id, next: 'the model is left as it is' },
      )
  }
}

class ChannelCheck {
  readonly model: Model
  /** Outputs of `model`: the difference as a fraction of what is allowed, by name; and the node it belongs to. */
  readonly compared = new Map<string, Node>()
  readonly #graph: Graph
  readonly #decision: ChannelDecision
  /** The values here that compute those of the smaller model. */
  readonly #map: ValueMap = new Map()
  /** Sums of magnitudes of what layers, and additions to them, add up; and how many products. */
  readonly #sums = new Map<Value, { readonly magnitude: Value; readonly terms: number }>()

  constructor(after: Graph, decision: ChannelDecision) {
    this.model = cloneModel(decision.lifted)
    this.#graph = this.model.graph
    this.#decision = decision
    for (const v of [...this.#graph.outputs]) this.#graph.removeOutput(v)
    const derived = new Set<Value>()
    for (const n of after.nodes()) {
      const isKnown = (v: Value | null): boolean => !v || v.constant !== null || derived.has(v)
      const old = this.#old(n.outputs[0])?.producer
      if (n.inputs.length > 0 && n.subgraphs.length === 0 && n.inputs.every(isKnown)) {
        this.#copy(n)
        for (const v of n.outputs) if (v) derived.add(v)
      } else if (n.subgraphs.length > 0 || (old && this.#isSame(n, old))) {
        for (const v of n.outputs) if (v) this.#map.set(v, this.#graph.find(v.name)!)
      } else this.#visit(n, old ?? null)
    }
  }

  /** The value of the old model, by its name. */
  #old(v: Value | null | undefined): Value | undefined {
    return v ? this.#decision.lifted.graph.find(v.name) : undefined
  }

  /** The channels of an old value that stay, if some are removed. */
  #kept(old: Value | undefined): readonly number[] | null {
    const { plan, slots } = this.#decision
    const keep = plan.keep(old)
    return keep && keep.length < slots.of(old)!.length ? keep : null
  }

  /** Whether a node reads and computes what it did before. */
  #isSame(n: Node, old: Node): boolean {
    if (n.inputs.length !== old.inputs.length || n.outputs.some((v) => this.#kept(this.#old(v)))) return false
    return n.inputs.every((v, i) => {
      const was = old.inputs[i]
      if (!v || !was) return v === (was ?? null)
      if (v.name !== was.name || this.#kept(was)) return false
      if (v.constant) return was.constant?.equals(v.constant) ?? false
      const here = this.#map.get(v)
      return here === undefined || here === this.#graph.find(v.name)
    })
  }

  #visit(n: Node, old: Node | null): void {
    for (const v of n.inputs) if (v && !this.#map.has(v)) this.#map.set(v, this.#input(v))
    const copy = this.#copy(n)
    n.outputs.forEach((v, i) => {
      const here = copy.outputs[i]
      const was = this.#old(v)
      if (!v || !here) return
      const sum = i === 0 ? this.#sumOf(n) : null
      if (sum) this.#sums.set(v, sum)
      if (!was || !isFloat(was)) return
      this.#compare(n, old, here, was, sum)
      this.#map.set(v, this.#part(was))
    })
  }

  /** A constant of the smaller model, or the remaining channels of a value of the old one. */
  #input(v: Value): Value {
    if (v.constant) return this.#graph.addInitializer(v.name, v.constant)
    return this.#part(this.#old(v)!)
  }

  readonly #parts = new Map<Value, Value>()
  #part(old: Value): Value {
    const keep = this.#kept(old)
    const here = this.#graph.find(old.name)!
    if (!keep) return here
    const known = this.#parts.get(old)
    if (known) return known
    const made = this.#graph
      .append()
      .op('Gather', [here, this.#indices(keep)], { axis: 1 }, { type: { elem: old.type!.elem, dims: null } })
    this.#parts.set(old, made)
    return made
  }

  #indices(keep: readonly number[]): Value {
    return this.#graph.append().ints(keep)
  }

  #copy(n: Node): Node {
    for (const v of n.inputs) if (v?.constant && !this.#map.has(v)) this.#map.set(v, this.#input(v))
    return this.#clone(n, this.#map, 'smaller')
  }

  /** Nodes need no names, and two with the same name are refused. */
  #clone(n: Node, map: ValueMap, suffix: string): Node {
    const copy = cloneNode(n, this.#graph, map, (name) => this.#graph.freshName(`${name}.${suffix}`))
    copy.rename('')
    return copy
  }

  /** |W| |x| + |b| of a layer, or of an addition to one. */
  #sumOf(n: Node): { magnitude: Value; terms: number } | null {
    const own = channelSlot(n)
    const before = n.inputs.flatMap((v) => (v && this.#sums.get(v)) ?? [])
    // what goes on to other layers is the old model's: only a value that it does not have is summed up further
    const open = n.inputs.some((v) => v && this.#sums.has(v) && !this.#old(v))
    if (!own && !open) return null
    const isWide = n.inputs.some((v) => v && (this.#old(v) ?? v).type?.elem === 'float64')
    const inputs = n.inputs.map((v) => {
      if (!v) return null
      const sum = this.#old(v) ? undefined : this.#sums.get(v)
      return sum?.magnitude ?? this.#magnitude(this.#map.get(v)!, isWide)
    })
    const terms = own ? this.#terms(n, own.input, own.outputAxis(n)) : Math.max(...before.map((s) => s.terms)) + 1
    return { magnitude: this.#positive(n, inputs), terms }
  }

  /** The same of the old layer. */
  #oldSum(old: Node): Value {
    const here = this.#graph.find(old.output.name)!.producer!
    return this.#positive(
      here,
      here.inputs.map((v) => v && this.#magnitude(v, here.inputs[0]?.type?.elem === 'float64')),
    )
  }

  #positive(n: Node, inputs: readonly (Value | null)[]): Value {
    const map: ValueMap = new Map(n.inputs.flatMap((v, i) => (v && inputs[i] ? [[v, inputs[i]] as const] : [])))
    const copy = this.#clone(n, map, 'magnitude')
    for (const [name, a] of copy.attributes)
      if (a.kind === 'float') copy.setAttribute(name, { kind: 'float', value: Math.abs(a.value) })
    copy.output.setType(null)
    return copy.output
  }

  /** |v| in float64 where the node computes in that, else in float32. */
  #magnitude(v: Value, isWide: boolean): Value {
    const b = this.#graph.append()
    return b.op('Abs', [b.op('Cast', [v], { to: elementTypes[isWide ? 'float64' : 'float32'].code })])
  }

  /** Products in one sum. */
  #terms(n: Node, input: number, outputAxis: number): number {
    const old = this.#old(n.output)?.producer
    const dims = (old ?? n).inputs[input]?.constant?.dims ?? (old ?? n).inputs[input]?.type?.dims ?? []
    return dims.reduce<number>((p, d, i) => (i === outputAxis || typeof d !== 'number' ? p : p * d), 1)
  }

  #compare(n: Node, old: Node | null, here: Value, was: Value, sum: { magnitude: Value; terms: number } | null): void {
    const b = this.#graph.append()
    const number = (x: number): Value => b.initializer('tolerance', Tensor.scalar(x, 'float64'))
    const wide = (v: Value): Value => b.op('Cast', [v], { to: elementTypes.float64.code })
    const [y, want] = [wide(here), wide(this.#part(was))]
    const elem = was.type!.elem
    const [u, least] = [unitOf(elem), leastOf(elem)]
    const error = b.op('Abs', [b.op('Sub', [y, want])])
    const size = b.op('Abs', [want])
    let allowed: Value
    if (sum) {
      const layer = old && channelSlot(old) ? old : this.#layerBefore(was)
      const all = wide(layer ? this.#kept1(b, was, this.#oldSum(layer)) : sum.magnitude)
      const both = b.op('Add', [all, wide(sum.magnitude)])
      const accumulated = Math.min(u, 2 ** -24)
      allowed = b.op('Mul', [both, number(DEVIATIONS * Math.sqrt(sum.terms) * accumulated + 2 * u)])
    } else {
      const known = b.op('Where', [this.#isFinite(b, size), size, number(0)])
      const largest = b.op('ReduceMax', [known], { keepdims: 0 })
      const read = Math.max(...n.inputs.map((v) => unitOf((this.#old(v) ?? v)?.type?.elem ?? elem)))
      allowed = b.op('Add', [b.op('Mul', [size, number(64 * u + 2 * read)]), b.op('Mul', [largest, number(8 * u)])])
    }
    const share = b.op('Div', [error, b.op('Add', [allowed, number(least)])])
    const equal = b.op('Or', [b.op('Equal', [y, want]), b.op('And', [b.op('IsNaN', [y]), b.op('IsNaN', [want])])])
    const wrong = b.op('Where', [b.op('IsNaN', [share]), number(Number.MAX_VALUE), share])
    const worst = b.op('ReduceMax', [b.op('Where', [equal, number(0), wrong])], { keepdims: 0 })
    this.#graph.addOutput(worst)
    this.compared.set(worst.name, n)
  }

  #isFinite(b: Builder, size: Value): Value {
    return b.op('LessOrEqual', [size, b.initializer('largest', Tensor.scalar(Number.MAX_VALUE, 'float64'))])
  }

  /** The layer that gave the old value in whose place an addition to the smaller layer stands. */
  #layerBefore(was: Value): Node | null {
    const node = was.producer
    return node && channelSlot(node) ? node : null
  }

  #kept1(b: Builder, was: Value, v: Value): Value {
    const keep = this.#kept(was)
    return keep ? b.op('Gather', [v, this.#indices(keep)], { axis: 1 }) : v
  }
}

const isFloat = (v: Value): boolean => /^float(16|32|64)$/.test(v.type?.elem ?? '')
