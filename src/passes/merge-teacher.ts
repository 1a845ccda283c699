/**
 * merge-teacher: puts a teacher network into the student's graph as a frozen subgraph that reads the student's input.
 * Its outputs become outputs of the graph, named `teacher/<name>`; its nodes and initializers carry `mnc.frozen`.
 *
 * Where the teacher expects its pixels scaled or sized differently, the caller supplies the conversion (see InputAdapter).
 * Several inputs are matched by position. Does not apply to teachers of another opset (upgrade both first).
 */

import { modelError } from '../base/errors.ts'
import { optionTable } from '../base/options.ts'
import { readModel } from '../codec/codec.ts'
import { cloneNode, type ValueMap } from '../graph/clone.ts'
import type { Graph, Value } from '../graph/graph.ts'
import { marks } from '../graph/marks.ts'
import type { Model } from '../graph/model.ts'
import { Tensor } from '../graph/tensor.ts'
import { definePass } from '../pass-manager/define-pass.ts'
import { inlineFunctions } from './inline-functions.ts'

export const TEACHER_PREFIX = 'teacher/'

/** teacher input = student input * scale + shift (one number per channel), then resized to `size` (height, width). */
export interface InputAdapter {
  readonly scale: readonly number[]
  readonly shift: readonly number[]
  readonly size?: readonly [number, number] | undefined
  readonly layout: 'NCHW' | 'NHWC'
}

/** Returns the teacher's outputs inside the student's graph (not yet graph outputs). */
export function attachTeacher(model: Model, teacher: Model, adapter?: InputAdapter): Value[] {
  const { graph } = model
  const inputs = teacher.graph.fed
  const sources = graph.fed
  const [source] = sources
  if (inputs.length !== sources.length || !source)
    throw modelError('teacher-inputs', `the teacher has ${inputs.length} inputs, but the student has ${sources.length}`)
  if (adapter && inputs.length > 1) throw modelError('teacher-inputs', 'only one input can be scaled for the teacher')
  for (const [domain, version] of teacher.opsets) {
    const own = model.opsets.get(domain)
    if (own === undefined) model.opsets.set(domain, version)
    else if (own !== version)
      throw modelError('teacher-opset', `the teacher uses opset ${version}, but the student uses ${own}`, {
        next: 'upgrade both with `mnc pass upgrade-opset`',
      })
  }
  const map: ValueMap = new Map(inputs.map((v, i) => [v, adapter ? adapt(graph, source, adapter) : sources[i]!]))
  // a teacher is merged as it is: its weights are not overridden
  for (const v of teacher.graph.stored()) {
    const copy = graph.addInitializer(TEACHER_PREFIX + v.name, v.stored!)
    marks.frozen.put(copy)
    map.set(v, copy)
  }
  for (const n of teacher.graph.nodes()) {
    const copy = cloneNode(n, graph, map, (name) => graph.freshName(TEACHER_PREFIX + name))
    marks.frozen.put(copy)
    for (const v of copy.outputs) v?.setType(null)
  }
  for (const f of teacher.functions) model.functions.push(f)
  return teacher.graph.outputs.map((v) => map.get(v)!)
}

function adapt(graph: Graph, source: Value, { scale, shift, size, layout }: InputAdapter): Value {
  const b = graph.append()
  const last = layout === 'NHWC'
  const perChannel = (values: readonly number[]) =>
    Tensor.float32(last ? [values.length] : [values.length, 1, 1], values)
  let v = source
  if (scale.some((s) => s !== 1)) v = b.op('Mul', [v, b.initializer('teacher_scale', perChannel(scale))])
  if (shift.some((s) => s !== 0)) v = b.op('Add', [v, b.initializer('teacher_shift', perChannel(shift))])
  if (size) {
    const shape = (start: number, end: number): Value => b.op('Shape', [source], { start, end })
    const parts = last ? [shape(0, 1), b.ints(size), shape(3, 4)] : [shape(0, 2), b.ints(size)]
    const sizes = b.op('Concat', parts, { axis: 0 })
    const attributes = { mode: 'linear', coordinate_transformation_mode: 'half_pixel' }
    v = b.op('Resize', [v, null, null, sizes], attributes)
  }
  for (let n = v.producer; n && marks.frozen.get(n) === undefined; n = n.inputs[0]?.producer ?? null)
    marks.frozen.put(n)
  return v
}

export const mergeTeacher = definePass({
  name: 'merge-teacher',
  summary: 'Put a teacher network into the graph as a frozen subgraph next to the student',
  options: optionTable({
    teacher: { type: 'string', description: 'The teacher: an ONNX model with the same input', placeholder: 'FILE' },
  }),
  isInner: true,
  preserves: 'nothing',
  requires(_model, { teacher }) {
    if (!teacher) throw modelError('no-teacher', 'merge-teacher needs --teacher FILE', { blame: 'user' })
  },
  async run(model, { teacher }) {
    if (model.graph.outputs.some((v) => v.name.startsWith(TEACHER_PREFIX))) return false
    const source = await readModel(teacher!)
    inlineFunctions(source)
    const outputs = attachTeacher(model, source)
    for (const v of outputs) model.graph.addOutput(v)
    return true
  },
})
