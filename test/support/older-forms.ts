/**
 * Node tests in the forms of older opsets. Two sources:
 *
 *   - the declared opset lowered, the node as it is: valid where the form did not change in between;
 *   - the node written in an older form (`downgrades`): inputs turned back into attributes, old names and defaults.
 *
 * Either counts only where onnxruntime itself, given the older model, gives the expected outputs. So nothing here is
 * trusted: a wrong downgrade is not a case at all.
 */
import type { Graph, Node } from '../../src/graph/graph.ts'
import type { Model } from '../../src/graph/model.ts'
import { Tensor } from '../../src/graph/tensor.ts'
import { sinceVersions } from '../../src/ops/support/schema-versions.ts'
import type { NodeCase } from './node-tests.ts'

export interface OlderForm {
  readonly opset: number
  readonly rewritten: boolean
  /** The case in that form; made anew at each call. */
  readonly make: () => Model
}

/** Opsets from 7 on at which one of the model's operators took a form, below the model's own and below `below`. */
export function olderForms(c: NodeCase, below: number): OlderForm[] {
  const model = c.model()
  const nodes = [...model.graph.allNodes(), ...model.functions.flatMap((f) => [...f.graph.allNodes()])]
  const boundaries = new Set<number>()
  for (const n of nodes) {
    if (n.domain !== '') continue
    for (const v of sinceVersions(n.op) ?? []) boundaries.add(Math.max(7, v))
  }
  const lowered = [...boundaries, model.opset]
    .filter((v) => v < below && v <= model.opset)
    .map((opset): OlderForm => ({ opset, rewritten: false, make: () => atOpset(c.model(), opset) }))
  const older = downgrades.flatMap(([op, opset, apply]): OlderForm[] => {
    if (nodes.length !== 1 || nodes[0]!.op !== op || opset >= below) return []
    const make = (): Model | null => {
      const m = c.model()
      const [node] = m.graph.nodes()
      return node && apply(node, constants(c, m)) === true ? atOpset(m, opset) : null
    }
    return make() ? [{ opset, rewritten: true, make: () => make()! }] : []
  })
  const seen = new Set<string>()
  return [...lowered, ...older].filter((f) => {
    const key = `${f.opset} ${f.rewritten}`
    return !seen.has(key) && seen.add(key)
  })
}

function atOpset(model: Model, opset: number): Model {
  model.opsets.set('', opset)
  model.functions.forEach((f, i) => {
    if (f.opsets.has('')) model.functions[i] = { ...f, opsets: new Map([...f.opsets, ['', opset]]) }
  })
  return model
}

/** Takes an input of the node out, its numbers from the case's data; null where it is left out. */
type Take = (node: Node, i: number) => readonly number[] | null
const constants =
  (c: NodeCase, model: Model): Take =>
  (node, i) => {
    const v = node.inputs[i]
    if (!v) return null
    const tensor = c.feeds[v.name] ?? v.constant
    node.setInput(i, null)
    if (v.isInput && !v.isUsed) model.graph.removeInput(v)
    return tensor ? Array.from(tensor.toNumbers()) : null
  }

type Downgrade = readonly [op: string, opset: number, apply: (node: Node, take: Take) => boolean]

const axesAttribute = (op: string, opset: number): Downgrade => [
  op,
  opset,
  (node, take) => {
    if (node.int('noop_with_empty_axes', 0)) return false
    node.setAttribute('noop_with_empty_axes', null)
    const axes = take(node, 1)
    if (axes?.length) node.setAttribute('axes', axes)
    return true
  },
]

const lastAxis = (op: string): Downgrade => [
  op,
  11,
  (node) => {
    const rank = node.input(0).type!.dims!.length
    const axis = node.int('axis', -1)
    node.setAttribute('axis', rank - 1)
    return axis === -1 || axis === rank - 1
  },
]

/** Over the flattened rest: the old default axis of 1 on a matrix. */
const flattened = (op: string): Downgrade => [
  op,
  7,
  (node) => {
    const rank = node.input(0).type!.dims!.length
    const axis = node.int('axis', -1)
    node.setAttribute('axis', null)
    return rank === 2 && (axis === -1 || axis === 1)
  },
]

function replace(node: Node, op: string, inputs: Node['inputs']): true {
  const graph: Graph = node.graph
  const name = node.output.name
  const fresh = graph.before(node).node({ op, inputs, attributes: Object.fromEntries(node.attributes) })
  fresh.output.setType(node.output.type)
  graph.replaceUses(node.output, fresh.output)
  graph.remove(node)
  if (fresh.output.name !== name) graph.rename(fresh.output, name)
  return true
}

const reduced = ['L1', 'L2', 'LogSum', 'LogSumExp', 'Max', 'Mean', 'Min', 'Prod', 'SumSquare'].map((s) => `Reduce${s}`)

const downgrades: readonly Downgrade[] = [
  ...[7, 11].map((v) => axesAttribute('Squeeze', v)),
  ...[7, 11].map((v) => axesAttribute('Unsqueeze', v)),
  ...[7, 11].map((v) => axesAttribute('ReduceSum', v)),
  ...reduced.flatMap((op) => [7, 11, 13].map((v) => axesAttribute(op, v))),
  ...['Softmax', 'LogSoftmax', 'Hardmax'].flatMap((op) => [lastAxis(op), flattened(op)]),
  [
    'Slice',
    7,
    (node, take) => {
      const steps = take(node, 4)
      const axes = take(node, 3)
      if (steps?.some((s) => s !== 1)) return false
      const far = (v: number): number => Math.max(-(2 ** 31), Math.min(2 ** 31 - 1, v))
      node.setAttribute('ends', take(node, 2)!.map(far))
      node.setAttribute('starts', take(node, 1)!)
      if (axes) node.setAttribute('axes', axes)
      return true
    },
  ],
  ...[7, 11].map(
    (v): Downgrade => [
      'Split',
      v,
      (node, take) => {
        const sizes = take(node, 1)
        node.setAttribute('num_outputs', null)
        if (sizes) node.setAttribute('split', sizes)
        return true
      },
    ],
  ),
  [
    'Split',
    13,
    (node) => {
      node.setAttribute('num_outputs', null)
      return true
    },
  ],
  [
    'Pad',
    7,
    (node, take) => {
      const axes = take(node, 3)
      const value = take(node, 2)
      const pads = take(node, 1)!
      const rank = node.input(0).type!.dims!.length
      const all = Array<number>(2 * rank).fill(0)
      const at = axes ?? Array.from({ length: rank }, (_, i) => i)
      at.forEach((a, i) => {
        all[(a + rank) % rank] = pads[i]!
        all[((a + rank) % rank) + rank] = pads[i + at.length]!
      })
      node.setAttribute('pads', all)
      if (value) node.setAttribute('value', { kind: 'float', value: value[0]! })
      return true
    },
  ],
  [
    'Clip',
    7,
    (node, take) => {
      const max = take(node, 2)
      const min = take(node, 1)
      if (max) node.setAttribute('max', { kind: 'float', value: max[0]! })
      if (min) node.setAttribute('min', { kind: 'float', value: min[0]! })
      return true
    },
  ],
  ...[7, 10].map(
    (v): Downgrade => [
      'Dropout',
      v,
      (node, take) => {
        const training = take(node, 2)
        const ratio = take(node, 1)
        node.setAttribute('seed', null)
        if (ratio) node.setAttribute('ratio', { kind: 'float', value: ratio[0]! })
        return !training?.[0]
      },
    ],
  ),
  [
    'TopK',
    7,
    (node, take) => {
      node.setAttribute('k', take(node, 1)![0]!)
      const plain = node.int('largest', 1) === 1 && node.int('sorted', 1) === 1
      node.setAttribute('largest', null)
      node.setAttribute('sorted', null)
      return plain
    },
  ],
  [
    'Upsample',
    7,
    (node, take) => {
      node.setAttribute('scales', { kind: 'floats', value: take(node, 1)! })
      return true
    },
  ],
  [
    'Resize',
    10,
    (node, take) => {
      const mode = node.string('mode', 'nearest')
      const axes = node.attributes.has('axes')
      const [sizes, scales] = [take(node, 3), take(node, 2)]
      take(node, 1)
      if (sizes || !scales || axes) return false
      for (const name of [...node.attributes.keys()]) if (name !== 'mode') node.setAttribute(name, null)
      node.setInput(1, node.graph.addInitializer('scales', Tensor.float32([scales.length], scales)))
      return mode === 'nearest' || mode === 'linear'
    },
  ],
  ['ScatterElements', 9, (node) => !node.attributes.has('reduction') && replace(node, 'Scatter', node.inputs)],
  [
    'BatchNormalization',
    7,
    (node) => {
      node.setAttribute('training_mode', null)
      return node.outputs.length === 1
    },
  ],
  [
    'GridSample',
    16,
    (node) => {
      const mode = node.string('mode', 'linear')
      node.setAttribute('mode', { linear: 'bilinear', cubic: 'bicubic' }[mode] ?? mode)
      return true
    },
  ],
  [
    'RoiAlign',
    10,
    (node) => {
      const mode = node.string('coordinate_transformation_mode', 'half_pixel')
      node.setAttribute('coordinate_transformation_mode', null)
      return mode === 'output_half_pixel'
    },
  ],
  [
    'DFT',
    17,
    (node, take) => {
      const axis = take(node, 2)
      const rank = node.input(0).type!.dims!.length
      const at = axis?.[0] ?? -2
      node.setAttribute('axis', at < 0 ? at + rank : at)
      return true
    },
  ],
]
