/**
 * Floats of a file as float16: layers, and what lies between them and moves numbers or combines few of them, compute in
 * it and store their weights so. Inputs and outputs stay as they are.
 *
 * What float16 does not hold is found by running samples: a node stays in float32 where the largest magnitude of a value that it
 * reads or makes, constants included, is above half of float16's largest number (other samples may go further) or
 * below the least that it has all digits of. Where nothing was computed (a largest magnitude of 0) it is narrow.
 */
import { cloneModel, type ValueMap } from '../graph/clone.ts'
import type { Graph, Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import type { Tensor } from '../graph/tensor.ts'
import { findOp } from '../ops/index.ts'
import { removeDead } from '../passes/eliminate-dead.ts'
import { HALF, isSingle, narrowNodes, nodesToNarrow } from '../passes/half-nodes.ts'
import { observe } from '../quant/observe.ts'
import { inferTypes } from '../runtime/isolated/infer-types.ts'
import type { CalibrationData } from '../samples/calibration-data.ts'
import { randomInputs } from '../samples/random-inputs.ts'
import type { Exporting } from './exporting.ts'
import type { Choice } from './weights/storage.ts'

/** Of float16's largest number, left for samples that were not seen. */
const MARGIN = 2
const SAMPLES = 16

/** Needs the weights in the graph; types are inferred. */
export async function storeHalf(context: Exporting): Promise<void> {
  const { model, options, choices, log } = context
  const { graph } = model
  await inferTypes(model)
  const candidates = nodesThatMay(graph)
  if (!context.calibration) log('WARNING: overflow is looked for with random inputs: give --data for real ones')
  const data = (await context.calibration?.()) ?? (await randomData(model))
  const largest = await magnitudes(model, candidates.flatMap(floatsOf), data, options.allowNonfinite)
  const wide = new Map(candidates.flatMap((n) => reasonFor(n, largest) ?? []))
  const chosen = nodesToNarrow(
    candidates.filter((n) => !wide.has(n)),
    (v) => !v.constant,
  )
  const layerOf = new Map(choices.map((c) => [c, [...c.weight.value.uses]] as const))
  narrowNodes(chosen, { storesHalf: true })
  context.choices = choices.map((c) => asStored(c, layerOf.get(c)!, { chosen, wide }))
  const halves = context.choices.filter((c) => c.kind === 'float16')
  context.weightBytes -= halves.reduce((n, c) => n + c.payload, 0)
  settleNames(
    model,
    [...graph.initializers()].map((v) => v.name),
  )
}

/**
 * Nodes that compute the same numbers in float16 but for rounding, as long as the numbers fit: those for which float16 is enough
 * in training, tables, quotients, and what lies between two numbers. Not those that combine elements with the result of a node that
 * has to be wide: normalisations written in single operators stay whole, and sums that run through a transformer stay wide.
 */
function nodesThatMay(graph: Graph): Node[] {
  const found = new Set<Node>()
  for (const n of graph.nodes()) {
    if (!mayBeNarrow(n)) continue
    const isWide = (v: Value | null): boolean => v?.producer != null && isSingle(v) && !found.has(v.producer)
    if (!findOp(n)!.broadcasts || !n.inputs.some(isWide)) found.add(n)
  }
  return [...found]
}

function mayBeNarrow(n: Node): boolean {
  const def = findOp(n)
  if (!def || n.domain !== '' || n.outputs.some((v) => !v?.type) || n.subgraphs.length > 0) return false
  const isTable = def.weights?.some((w) => w.lookup) === true
  const isQuotient = def.broadcasts === true && def.homogeneous?.(n) === 'element'
  const isBounded = def.bounded === true && def.distribution === undefined
  return (def.half === true || isTable || isQuotient || isBounded) && floatsOf(n).length > 0
}

const floatsOf = (n: Node): Value[] => [...n.inputs, ...n.outputs].flatMap((v) => (v && isSingle(v) ? [v] : []))

/** The largest magnitude of each value. */
async function magnitudes(
  model: Model,
  values: readonly Value[],
  data: CalibrationData,
  allowNonfinite: boolean | undefined,
): Promise<Map<Value, number>> {
  const largest = new Map<Value, number>()
  const map: ValueMap = new Map()
  const copy = cloneModel(model, map)
  for (const v of [...copy.graph.outputs]) copy.graph.removeOutput(v)
  for (const v of new Set(values))
    if (v.constant) largest.set(v, magnitude(v.constant))
    else if (!v.isInput) copy.graph.addOutput(map.get(v)!)
  const run = values.filter((v) => !v.constant)
  const held = run.map((v) => map.get(v)!)
  await observe(copy, data, { held: [held], allowNonfinite }, ({ feeds, out }) => {
    for (const v of run) {
      const most = magnitude(out[v.name] ?? feeds[v.name]!)
      largest.set(v, Math.max(most, largest.get(v) ?? 0))
    }
  })
  return largest
}

/** NaN counts as infinite. */
function magnitude(t: Tensor): number {
  let most = 0
  for (const x of t.toFloat32()) most = Math.max(most, Number.isNaN(x) ? Number.POSITIVE_INFINITY : Math.abs(x))
  return most
}

function reasonFor(n: Node, largest: ReadonlyMap<Value, number>): readonly [Node, string][] | null {
  for (const v of floatsOf(n)) {
    const most = largest.get(v) ?? 0
    const what = v.constant ? 'a constant reaches' : 'its values reach'
    if (most > HALF.largest / MARGIN)
      return [[n, `${what} ${most.toPrecision(3)}, too close to float16's ${HALF.largest}`]]
    if (most > 0 && most < HALF.leastNormal)
      return [[n, `${what} only ${most.toPrecision(3)}, below what float16 has digits for`]]
  }
  return null
}

interface Narrowed {
  readonly chosen: ReadonlySet<Node>
  readonly wide: ReadonlyMap<Node, string>
}

function asStored(c: Choice, layers: readonly Node[], { chosen, wide }: Narrowed): Choice {
  const { weight } = c
  if (layers.length > 0 && layers.every((n) => chosen.has(n)))
    return { weight, kind: 'float16', payload: 2 * weight.size }
  const reason = layers.flatMap((n) => wide.get(n) ?? [])[0] ?? 'what reads it stays in float32'
  return { ...c, reason }
}

/** A constant whose float32 form nothing reads any more gets its name. */
function settleNames(model: Model, names: readonly string[]): void {
  const { graph } = model
  removeDead(graph)
  for (const name of names) {
    const [bare, isHalf] = [name.replace(/\.float16$/, ''), name.endsWith('.float16')]
    const v = graph.find(name)
    if (isHalf && v && !graph.find(bare)) graph.rename(v, bare)
  }
}

async function randomData(model: Model): Promise<CalibrationData> {
  const { feeds, batch } = await randomInputs(model, SAMPLES)
  return {
    isWhole: true,
    async *batches() {
      for (let i = 0; i * batch < SAMPLES; i++) yield feeds(0, i)
    },
  }
}
