/**
 * Shape inference, done by onnxruntime: the graph without its large initializers (made inputs of known type) is loaded
 * with every value exposed as an output and optimisation off; the session's output metadata are the types. So every
 * operator and opset that onnxruntime knows is covered, and none is described here. It happens in a separate process
 * (isolated/engine.ts): an untrusted file can make the engine abort.
 *
 * Does not apply to values inside If/Loop/Scan bodies, whose types stay as the file declares them. Types that
 * onnxruntime cannot expose (sequences, maps) stay null.
 */
import { cloneModel, type ValueMap } from '../../graph/clone.ts'
import { isPin } from '../../graph/hints.ts'
import type { Model } from '../../graph/model.ts'
import { type Dim, type ElementType, elementTypes } from '../../graph/types.ts'
import { isolatedTypes } from './engine.ts'

/** Initializers up to this many elements stay in the graph: shapes, axes, pads, which decide other values' shapes. */
const SHAPE_CONSTANT_ELEMENTS = 1024

/** Sizes that shapes are inferred with. */
export interface InferOptions {
  /** Fixes symbolic dims of graph inputs, by symbol; `*` fixes every one that is not named. */
  readonly dims?: Readonly<Record<string, number>>
}

/** Sets `type` on every value of the main graph that onnxruntime can type. Also sets the inputs' dims where fixed. */
export async function inferTypes(model: Model, options: InferOptions = {}): Promise<void> {
  if (options.dims) fixInputs(model, options.dims)
  const map: ValueMap = new Map()
  const copy = cloneModel(model, map)
  const { graph } = copy
  graph.fixDefaults()
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  for (const v of [...graph.initializers()]) {
    const size = v.constant!.size
    if (size > SHAPE_CONSTANT_ELEMENTS && v.constant!.type !== 'string') graph.initializerToInput(v)
  }
  for (const n of graph.nodes()) for (const v of n.outputs) if (v) graph.addOutput(v)
  if (graph.outputs.length === 0) return
  // a declared type that disagrees with the fixed input would be refused; inference finds them again
  for (const v of graph.values()) if (v.producer && v.type) v.setType(null)
  const byName = new Map((await isolatedTypes(copy)).map((t) => [t.name, t]))
  const ranked = await scalarsAmong(copy, byName)
  for (const [from, to] of map) {
    if (from.graph !== model.graph || !from.producer) continue
    const t = byName.get(to.name)
    if (t) from.setType({ elem: t.elem, dims: t.dims.length === 0 && !ranked.has(to.name) ? null : t.dims })
  }
  copyPins(model)
}

/** The input of a pin has the shape of its output, which inference cannot know. */
function copyPins(model: Model): void {
  for (const n of model.graph.nodes()) if (isPin(n) && n.output.type) n.input(0).setType(n.output.type)
}

/**
 * onnxruntime reports scalars and values of unknown rank alike, with no dims. The shape of a value's Shape tells them
 * apart: [0] for a scalar, open otherwise. It has no Shape for 4-bit integers: their ranks stay unknown.
 */
async function scalarsAmong(
  copy: Model,
  types: ReadonlyMap<string, { readonly elem: ElementType; readonly dims: readonly Dim[] }>,
): Promise<Set<string>> {
  const { graph } = copy
  const suspects = [...graph.outputs].filter((v) => {
    const type = types.get(v.name)
    return type?.dims.length === 0 && elementTypes[type.elem].bits % 8 === 0
  })
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  if (suspects.length === 0) return new Set()
  const b = graph.append()
  const shapes = new Map(suspects.map((v) => [b.op('Shape', [v]), v.name]))
  for (const s of shapes.keys()) graph.addOutput(s)
  const found = new Map((await isolatedTypes(copy)).map((t) => [t.name, t.dims]))
  return new Set([...shapes].filter(([s]) => found.get(s.name)?.[0] === 0).map(([, name]) => name))
}

/** Gives symbolic dims of graph inputs their size, by symbol; `*` stands for every one that is not named. */
export function fixInputs(model: Model, fixed: Readonly<Record<string, number>>): void {
  for (const v of model.graph.fed) {
    if (!v.type?.dims) continue
    const dims: Dim[] = v.type.dims.map((d) => (typeof d === 'number' ? d : (fixed[d ?? '*'] ?? fixed['*'] ?? d)))
    v.setType({ elem: v.type.elem, dims })
  }
}
