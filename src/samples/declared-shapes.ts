/**
 * Writes sizes into a file's own types: `mnc convert --dim NAME=N` gives a symbol its size wherever it occurs (inputs,
 * outputs, inner values, bodies of If, Loop and Scan), `--input-shape` gives an input another shape altogether, even in
 * place of fixed sizes. onnxruntime's inference says whether the graph allows it, and what the outputs become.
 *
 * Does not apply to constants that bake a size in: a Reshape to [1, 10] keeps its 1, and is then refused or found to run
 * at that batch only (batch-plan.ts).
 */

import { MncError, usageError } from '../base/errors.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Graph } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { type Dim, formatType } from '../graph/types.ts'
import { inferTypes } from '../runtime/isolated/infer-types.ts'
import { type GivenSizes, inputCalled, inputDims, noInput, noSymbol, parseShape, sizeOf } from './input-shapes.ts'

/** Edits `model` in place. Usage errors for names that match nothing and for shapes that onnxruntime refuses. */
export async function declareShapes(model: Model, { dim = {}, inputShape = {} }: GivenSizes): Promise<void> {
  const before = cloneModel(model)
  const sizes = new Map<string, Dim>()
  const symbols = new Set(model.graph.fed.flatMap((v) => v.type?.dims ?? []))
  for (const [name, n] of Object.entries(dim)) {
    if (!symbols.has(name)) throw noSymbol([model], name)
    sizes.set(name, sizeOf(name, n))
  }
  substitute(model.graph, (d) => sizes.get(d) ?? d)
  let isStale = false
  for (const [name, text] of Object.entries(inputShape)) {
    const v = inputCalled(model, name)
    if (!v) throw noInput([model], name)
    const shape = parseShape(name, text).map((d) => (typeof d === 'string' && sizes.get(d)) || d)
    const own = v.type?.dims ?? null
    if (own && own.length !== shape.length)
      throw usageError(`--input-shape: '${v.name}' is ${formatType(v.type)}, which has ${own.length} dims`)
    isStale ||= own?.some((d, i) => typeof d === 'number' && d !== shape[i]) ?? false
    const renamed = new Map(own?.flatMap((d, i) => (typeof d === 'string' && d !== '' ? [[d, shape[i]!]] : [])))
    if (renamed.size > 0) substitute(model.graph, (d) => renamed.get(d) ?? d)
    v.setType({ elem: v.type?.elem ?? 'float32', dims: shape })
  }
  if (isStale) forgetShapes(model.graph)
  await settleOutputs(model, before)
  forgetRecord(model)
}

function substitute(graph: Graph, of: (symbol: string) => Dim): void {
  for (const v of graph.values()) {
    const dims = v.type?.dims
    if (v.constant || !dims?.some((d) => typeof d === 'string')) continue
    v.setType({ elem: v.type!.elem, dims: dims.map((d) => (typeof d === 'string' ? of(d) : d)) })
  }
  for (const n of graph.nodes()) for (const g of n.subgraphs) substitute(g, of)
}

/** Drops types that held for the sizes before; outputs keep their rank. */
function forgetShapes(graph: Graph): void {
  for (const v of graph.values()) {
    if (!v.producer || !v.type) continue
    v.setType(v.isOutput ? { elem: v.type.elem, dims: v.type.dims?.map(() => null) ?? null } : null)
  }
}

/** Gives outputs the sizes that now follow; refuses what onnxruntime refuses now and did not before. */
async function settleOutputs(model: Model, before: Model): Promise<void> {
  const typed = cloneModel(model)
  try {
    await inferTypes(typed)
  } catch (error) {
    if (!(error instanceof MncError)) throw error
    const was = await inferTypes(before).catch((e: unknown) => e)
    if (was instanceof MncError) return // nothing can be inferred about this model, whatever its sizes
    const shapes = model.graph.fed.map((v) => `'${v.name}' ${formatType(v.type)}`)
    throw usageError(`the graph does not allow ${shapes.join(', ')}: ${error.message}`)
  }
  for (const v of model.graph.outputs) {
    const seen = typed.graph.find(v.name)?.type?.dims
    if (!v.type || !seen) continue
    const own = v.type.dims ?? seen.map(() => null)
    if (own.length === seen.length)
      v.setType({ elem: v.type.elem, dims: own.map((d, i) => (typeof seen[i] === 'number' ? seen[i] : d)) })
  }
}

/** Drops the record of inputs whose sizes the file now holds. */
function forgetRecord(model: Model): void {
  if (!marks.inputShapes.has(model)) return
  const open = model.graph.fed.filter((v) => v.type?.dims?.some((d) => typeof d !== 'number') ?? true)
  const dims = inputDims(model)
  const left = open.flatMap((v) => (dims[v.name]?.some((d) => typeof d === 'number') ? [[v.name, dims[v.name]]] : []))
  if (left.length === 0) marks.inputShapes.drop(model)
  else marks.inputShapes.set(model, Object.fromEntries(left))
}
