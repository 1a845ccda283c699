/**
 * If, Loop and Scan: their bodies are carried unharmed and run, but nothing is differentiated through them: which nodes
 * run, and how often, is known only when the graph runs. What lies before them trains only by other ways to the loss.
 * Scan 8, which had a batch axis, has no later form.
 */
import { graphAttribute } from '../graph/attribute.ts'
import { Graph } from '../graph/graph.ts'
import { Tensor } from '../graph/tensor.ts'
import { elementTypes } from '../graph/types.ts'
import { defineOp, noCost, type OpDef, type OpSample } from './support/define-op.ts'

const control = (op: string, since: readonly number[], samples: readonly OpSample[]): OpDef =>
  defineOp({
    op,
    since,
    gradient: { unsupported: `nothing is differentiated through the body of ${op}` },
    cost: () => noCost,
    samples,
  })

const typeExtensions = [19, 21, 23, 24, 25]
const scalar = { elem: 'float32', dims: [] } as const

function constantBody(value: number): Graph {
  const g = new Graph('branch')
  const y = g.append().op('Constant', [], { value: Tensor.scalar(value) }, { name: 'branch_y', type: scalar })
  g.addOutput(y)
  return g
}

/** One round of a loop: state = state + state. */
function doublingBody(): Graph {
  const g = new Graph('body')
  g.addInput('round', { elem: 'int64', dims: [] })
  const go = g.addInput('go', { elem: 'bool', dims: [] })
  const s = g.addInput('s', scalar)
  const b = g.append()
  g.addOutput(b.op('Identity', [go], {}, { name: 'go_on', type: go.type }))
  g.addOutput(b.op('Add', [s, s], {}, { name: 's_next', type: scalar }))
  return g
}

/** One step of a scan: the sum so far, and a copy of it. */
function summingBody(): Graph {
  const g = new Graph('body')
  const s = g.addInput('s', scalar)
  const x = g.addInput('x', scalar)
  const b = g.append()
  const sum = b.op('Add', [s, x], {}, { name: 's_next', type: scalar })
  g.addOutput(sum)
  g.addOutput(b.op('Cast', [sum], { to: elementTypes.float32.code }, { name: 'seen', type: scalar }))
  return g
}

const yes = { dims: [], type: 'bool', values: [1] } as const

export const controlFlow: readonly OpDef[] = [
  control(
    'If',
    [1, 11, 13, 16, ...typeExtensions],
    [
      {
        name: 'constant branches',
        inputs: [yes],
        attributes: { then_branch: graphAttribute(constantBody(1)), else_branch: graphAttribute(constantBody(2)) },
      },
    ],
  ),
  control(
    'Loop',
    [1, 11, 13, 16, ...typeExtensions],
    [
      {
        name: 'three rounds',
        inputs: [{ dims: [], type: 'int64', values: [3] }, yes, { dims: [] }],
        attributes: { body: graphAttribute(doublingBody()) },
      },
    ],
  ),
  control(
    'Scan',
    [8, 9, 11, 16, ...typeExtensions],
    [
      {
        name: 'running sum',
        inputs: [{ dims: [] }, { dims: [4] }],
        outputs: 2,
        attributes: { body: graphAttribute(summingBody()), num_scan_inputs: 1 },
      },
    ],
  ),
]
