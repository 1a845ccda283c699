/**
 * Dropout: y = x in inference; y = x * mask / (1 - ratio) in training, mask the second output. The rule asks the forward
 * node for its mask where the model does not. `ratio` and `training_mode` are inputs since opset 12; before that a node
 * in a file is inference.
 */
import type { Node, Value } from '../graph/graph.ts'
import { elementTypes } from '../graph/types.ts'
import { constantOf } from './support/constant-of.ts'
import { defineOp, type GradientContext, type Upgrade } from './support/define-op.ts'
import { elemOf, expressions, free, masked, scalarOf } from './support/rules.ts'

const DEFAULT_RATIO = 0.5

function maskOf(node: Node): Value {
  const { output } = node
  const mask = node.outputs[1] ?? node.addOutput(node.graph.freshName(`${output.name}_mask`))
  mask.setType({ elem: 'bool', dims: output.dims })
  return mask
}

/** dx = mask * dy / (1 - ratio) in training, dy in inference. */
function gradient({ node, dy: [dy], b }: GradientContext): (Value | null)[] {
  if (!dy) return []
  const [, ratio, training] = node.inputs
  const known = constantOf(training)
  if (!training || known?.item() === 0) return [dy]
  const f = expressions(b, node.output)
  const fixed = ratio ? scalarOf(ratio) : DEFAULT_RATIO
  const rate = (): Value =>
    elemOf(ratio!) === elemOf(node.output)
      ? ratio!
      : b.op('Cast', [ratio!], { to: elementTypes[elemOf(node.output)].code })
  const scaled = fixed === null ? f('Div', dy, f('Sub', 1, rate())) : f('Mul', dy, 1 / (1 - fixed))
  const kept = masked(b, maskOf(node), scaled, node.output)
  return [known ? kept : f('Where', training, kept, dy)]
}

/** Up to opset 9 the mask had the type of the data; since then it is boolean. */
const booleanMask: Upgrade = {
  to: 10,
  apply(node) {
    const mask = node.outputs[1]
    if (!mask?.isUsed) return
    const { type } = mask
    const back = node.graph
      .after(node)
      .op('Cast', [mask], { to: elementTypes[elemOf(node.input(0))].code }, { name: `${mask.name}_cast`, type })
    mask.setType(type && { elem: 'bool', dims: type.dims })
    node.graph.replaceUses(mask, back, back.producer ?? undefined)
  },
}

const ratioToInput: Upgrade = {
  to: 12,
  apply(node) {
    const ratio = node.float('ratio', DEFAULT_RATIO)
    node.setAttribute('ratio', null)
    if (ratio !== DEFAULT_RATIO) node.setInput(1, node.graph.before(node).scalar(ratio))
  },
}

const x = { dims: [2, 3] }
const training = { dims: [], type: 'bool', values: [1] } as const
const ratio = { dims: [], values: [0.25], constant: true }

export const dropout = defineOp({
  op: 'Dropout',
  homogeneous: () => 'element',
  unfoldable: true,
  optionalOutputs: true,
  channels: () => 'same',
  since: [7, 10, 12, 13, 22],
  gradient,
  cost: free,
  state: [1],
  nonNegative: (_, input) => input(0),
  upgrades: [booleanMask, ratioToInput],
  samples: [
    { name: 'inference', inputs: [x, ratio] },
    { name: 'training, nothing dropped', inputs: [x, { ...ratio, values: [0] }, training] },
    { name: 'opset 7', opset: 7, inputs: [x], attributes: { ratio: 0.3 } },
    { name: 'opset 10', opset: 10, inputs: [x] },
  ],
})
