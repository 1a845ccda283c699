/**
 * Walks through a network with calibration data, from layer to layer, while the layers behind it change: the inputs of a
 * layer are computed with all layers before it as they are by then, along with its inputs in a float network on the same
 * data.
 *
 * Values that pass from the part already walked to the rest are kept for all data if they fit KEPT_BYTES, so that
 * the network runs once in all and not once for each layer; where they do not fit, each step runs it from where they last
 * did, at worst from its inputs. So memory does not grow with the data beyond that.
 */
import { stopIfAborted } from '../base/long-run.ts'
import { cloneModel, cloneNode, type ValueMap } from '../graph/clone.ts'
import type { Graph, Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { sweepNode } from '../graph/sweep.ts'
import type { Tensor } from '../graph/tensor.ts'
import { constantValues } from '../layers/constants.ts'
import type { LoadOptions } from '../runtime/executor.ts'
import { ortExecutor } from '../runtime/ort/ort.ts'
import type { CalibrationData } from '../samples/calibration-data.ts'
import type { FloatReference } from './bypass-quantisers.ts'
import { type Feeds, type Observed, type Piece, piecesOf } from './observe.ts'

/** For values that are kept between steps; while a step runs, those of two steps exist. */
const KEPT_BYTES = 2 ** 29

/** As the graph is written, not by integer kernels; weights are rounded once, at load. */
const FLOAT_KERNELS: LoadOptions = { config: { 'session.disable_quant_qdq': '1' } }

/** A graph of both networks that probes are added to. */
export interface WalkSite {
  readonly graph: Graph
  /** The image of a value of the model. */
  here(v: Value): Value
  /** The image of the float network's value that a value of the model corresponds to; undefined if there is none. */
  there(v: Value): Value | undefined
}

/** Adds nodes that measure something to a site and makes them outputs; returns the values that take most memory. */
export type Probe = (site: WalkSite) => readonly Value[]

interface WalkOptions {
  readonly reference: FloatReference | null
  readonly allowNonfinite?: boolean | undefined
  /** KEPT_BYTES by default. */
  readonly keptBytes?: number
}

export class LayerWalk {
  readonly #model: Model
  readonly #data: CalibrationData
  readonly #options: WalkOptions
  /** All that will be measured, to know how much data fits a run. */
  readonly #probes: readonly Probe[]
  /** What is kept: values of the model or of the float network, by name of the input that each becomes; null: nothing. */
  #kept: { readonly names: ReadonlyMap<Value, string>; readonly pieces: Piece[] } | null = null

  constructor(model: Model, data: CalibrationData, probes: readonly Probe[], options: WalkOptions) {
    this.#model = model
    this.#data = data
    this.#probes = probes
    this.#options = options
  }

  /**
   * Measures with `probe` what lies at `first` or behind it, which must not be before the `first` of an earlier step; layers
   * before it must not change any more.
   */
  async step(first: Node, probe: Probe, visit: (observed: Observed) => void): Promise<void> {
    const { copy, site, images } = this.#site()
    const old = this.#kept
    for (const [v, name] of old?.names ?? []) startFrom(site.graph, images(v), name, old!.pieces[0]!.feeds[name]!)
    const crossing = this.#crossing(first)
    const names = new Map(crossing.map((v, i) => [v, `kept/${first.id}/${i}`]))
    probe(site)
    // where the value of each is found: among what is fed, or among the outputs
    const sources = new Map(crossing.map((v) => [v, old?.names.get(v) ?? images(v).name]))
    for (const v of crossing) {
      const image = images(v)
      if (!old?.names.has(v) && !image.isInput && !image.isOutput) site.graph.addOutput(image)
    }
    for (const n of site.graph.nodesReversed()) sweepNode(n)
    for (const v of [...site.graph.inputs]) if (!v.isUsed) site.graph.removeInput(v)
    const fed = new Set(site.graph.inputs.map((v) => v.name))
    const next: Piece[] = []
    const { keptBytes = KEPT_BYTES } = this.#options
    let bytes = 0
    const session = await ortExecutor().load(copy, FLOAT_KERNELS)
    try {
      for await (const [i, piece] of this.#pieces()) {
        stopIfAborted(this.#data.signal)
        const feeds = Object.fromEntries(Object.entries(piece.feeds).filter(([name]) => fed.has(name)))
        const out = await session.run(feeds)
        visit({ ...piece, out })
        if (bytes > keptBytes) continue
        const tensorOf = (v: Value): Tensor => out[sources.get(v)!] ?? piece.feeds[sources.get(v)!]!
        const kept: Feeds = Object.fromEntries([...names].map(([v, name]) => [name, tensorOf(v)]))
        for (const t of Object.values(kept)) bytes += t.byteLength
        next[i] = { ...piece, feeds: kept }
      }
    } finally {
      await session.dispose()
    }
    if (bytes <= keptBytes) this.#kept = { names, pieces: next }
  }

  /** Both networks in one graph without outputs, and the images there of values of either. */
  #site(): { copy: Model; site: WalkSite; images: (v: Value) => Value } {
    const map: ValueMap = new Map()
    const copy = cloneModel(this.#model, map)
    const { graph } = copy
    for (const v of [...graph.outputs]) graph.removeOutput(v)
    const { reference } = this.#options
    if (reference) addBeside(graph, reference.model, map)
    const there = (v: Value): Value | undefined => {
      const other = reference?.values.get(v)
      return other && map.get(other)
    }
    const here = (v: Value): Value => map.get(v)!
    return { copy, site: { graph, here, there }, images: here }
  }

  /** Values, of either network, that are computed before `first` and read at it or behind. */
  #crossing(first: Node): Value[] {
    const { reference } = this.#options
    const out = crossing(this.#model.graph, first)
    const counterpart = reference?.values.get(first.output)?.producer
    if (reference && counterpart) out.push(...crossing(reference.model.graph, counterpart))
    return out
  }

  async *#pieces(): AsyncGenerator<[number, Piece], void, undefined> {
    let i = 0
    if (this.#kept) {
      for (const piece of this.#kept.pieces) yield [i++, piece]
      return
    }
    const { copy, site } = this.#site()
    const held = this.#probes.map((probe) => probe(site))
    const { allowNonfinite } = this.#options
    for await (const piece of piecesOf(copy, this.#data, { held, allowNonfinite })) yield [i++, piece]
  }
}

/** Copies the nodes of another network of the same inputs into the graph; `map` gets the images of its values. */
function addBeside(graph: Graph, other: Model, map: ValueMap): void {
  for (const v of other.graph.inputs) map.set(v, graph.find(v.name)!)
  for (const v of other.graph.initializers()) map.set(v, graph.addInitializer(v.name, v.constant!))
  for (const n of other.graph.nodes()) cloneNode(n, graph, map, (name) => graph.freshName(`float/${name}`))
}

/** Replaces what computes `v` by an input, for tensors like `example`. */
function startFrom(graph: Graph, v: Value, name: string, { type, dims }: Tensor): void {
  graph.replaceUses(v, graph.addInput(name, { elem: type, dims: dims.map(() => null) }))
}

function crossing(graph: Graph, first: Node): Value[] {
  const constant = constantValues(graph)
  const before = new Set<Value>(graph.inputs)
  for (const n of graph.nodes()) {
    if (n === first) break
    for (const v of n.outputs) if (v) before.add(v)
  }
  const ahead = new Set<Node>()
  for (let n: Node | null = first; n; n = n.next) ahead.add(n)
  // bodies of If, Loop and Scan read values of the graph around them
  const isAhead = (n: Node): boolean => ahead.has(n) || n.graph !== graph
  return [...before].filter((v) => !constant.has(v) && [...v.uses].some(isAhead))
}
