/**
 * float16 and bfloat16 to float32, everywhere: initializers, Constant nodes, attributes that name an element type, inputs
 * and outputs, bodies of If, Loop and Scan. Training works on such a copy, so that a step smaller than half a unit of the
 * narrow type is not lost; what it learns is written back into the narrow file. Constants keep the values that they have there,
 * subnormal ones too; what is computed is no longer rounded.
 *
 * The interface changes where inputs or outputs were narrow. Does not apply to functions (inline them first) and to
 * nodes of other domains that require a narrow type.
 */
import { optionTable } from '../base/options.ts'
import type { Attribute } from '../graph/attribute.ts'
import type { Graph, Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { elementTypeOf, elementTypes, isNarrowFloat, type TensorType } from '../graph/types.ts'
import { removeUnused } from '../layers/remove-unused.ts'
import { castType, constantOf } from '../ops/facts.ts'
import { definePass } from '../pass-manager/define-pass.ts'

/** Integer attributes that hold an element type: Cast, random and window operators, EyeLike; quantisers. */
const TYPE_ATTRIBUTES = ['to', 'dtype', 'output_datatype', 'output_dtype', 'stash_type', 'softmax_precision']

const widened = (t: Tensor): Tensor => Tensor.float32(t.dims, t.toFloat32())

/** True where anything was narrow. */
export function widenFloats({ graph }: Model): boolean {
  const changed = widenGraph(graph)
  for (const v of graph.inputs) if (v.default && isNarrowFloat(v.default.type)) v.setDefault(widened(v.default))
  return changed
}

/** The same inside only: inputs and outputs keep their narrow types after Casts. True where anything was narrow. */
export function widenInside(model: Model): boolean {
  const { graph } = model
  const narrow = (list: readonly Value[]) => list.filter((v) => isNarrowFloat(v.type?.elem))
  const [inputs, outputs] = [narrow(graph.inputs), narrow(graph.outputs)].map((list) =>
    list.map((v) => [v, v.type!] as const),
  )
  if (!widenGraph(graph)) return false
  for (const [v, type] of outputs!) castOutput(graph, v, type)
  for (const [v, type] of inputs!) {
    const users = [...v.uses]
    const wide = graph.prepend().op('Cast', [v], { to: elementTypes.float32.code }, { type: v.type })
    for (const n of users) for (let i = 0; i < n.inputs.length; i++) if (n.inputs[i] === v) n.setInput(i, wide)
    v.setType(type)
  }
  return true
}

/** A Cast takes the place and the name of the output. */
function castOutput(graph: Graph, v: Value, type: TensorType): void {
  const { name } = v
  graph.rename(v, graph.freshName(`${name}.wide`))
  const cast = graph.append().op('Cast', [v], { to: elementTypes[type.elem].code }, { name, type })
  const order = graph.outputs.map((o) => (o === v ? cast : o))
  for (const o of [...graph.outputs]) graph.removeOutput(o)
  for (const o of order) graph.addOutput(o)
}

function widenGraph(graph: Graph): boolean {
  let changed = roundConstants(graph)
  for (const v of graph.values()) if (widenValue(v)) changed = true
  for (const n of graph.nodes()) {
    for (const [name, a] of [...n.attributes]) if (widenAttribute(n, name, a)) changed = true
    for (const body of n.subgraphs) if (widenGraph(body)) changed = true
  }
  return changed
}

/**
 * A Cast of a constant to a narrow type rounds it, to 0 or infinity where the type has nothing nearer: the constant is
 * rounded now, or its Cast to float32 would bring back what was lost.
 */
function roundConstants(graph: Graph): boolean {
  let changed = false
  for (const n of graph.nodes()) {
    const elem = castType(n)
    const t = constantOf(n.inputs[0])
    if (!t || !elem || !isNarrowFloat(elem) || t.type === 'string' || n.output.isOutput) continue
    const { name } = n.output
    const rounded = graph.addInitializer(name, t.as(elem))
    graph.replaceUses(n.output, rounded)
    removeUnused([n])
    graph.rename(rounded, name)
    changed = true
  }
  return changed
}

function widenValue(v: Value): boolean {
  if (v.constant && isNarrowFloat(v.constant.type)) {
    v.setConstant(widened(v.constant))
    return true
  }
  if (!v.type || !isNarrowFloat(v.type.elem)) return false
  v.setType({ elem: 'float32', dims: v.type.dims })
  return true
}

function widenAttribute(n: Node, name: string, a: Attribute): boolean {
  if (a.kind === 'tensor' && isNarrowFloat(a.value.type)) n.setAttribute(name, widened(a.value))
  else if (a.kind === 'int' && TYPE_ATTRIBUTES.includes(name) && isNarrowFloat(elementTypeOf(Number(a.value))))
    n.setAttribute(name, elementTypes.float32.code)
  else return false
  return true
}

export const widenFloatsPass = definePass({
  name: 'widen-floats',
  summary: 'Convert float16 and bfloat16 to float32, including inputs and outputs',
  options: optionTable({}),
  isInner: true,
  preserves: 'nothing',
  bakes: true,
  run: widenFloats,
})
