/**
 * Ops whose forms must be upgraded and that have no gradient here: RoiAlign, GridSample, DFT, OneHot.
 *
 * Forms: RoiAlign 10 sampled at output half pixels, 16 made that an attribute with another default; GridSample 20
 * renamed the modes; DFT 20 made the axis an input.
 */
import { defineOp, noCost, type OpDef, outputSize } from './support/define-op.ts'
import { scalarOf } from './support/rules.ts'

const untrained = (op: string, since: readonly number[], why: string, rest: Partial<OpDef>): OpDef =>
  defineOp({
    op,
    since,
    gradient: { unsupported: why },
    cost: (node) => ({ ...noCost, mults: 4 * outputSize(node), adds: 3 * outputSize(node) }),
    samples: [],
    ...rest,
  })

const indices = (values: readonly number[]) => ({ dims: [values.length], type: 'int64' as const, values })

export const sampling: readonly OpDef[] = [
  untrained('RoiAlign', [10, 16, 22], 'regions are sampled by a kernel of onnxruntime that has no transpose', {
    upgrades: [{ to: 16, apply: (node) => node.setAttribute('coordinate_transformation_mode', 'output_half_pixel') }],
    samples: [
      {
        name: 'opset 10',
        inputs: [{ dims: [1, 1, 6, 6] }, { dims: [1, 4], values: [0, 0, 4, 4] }, indices([0])],
        attributes: { output_height: 2, output_width: 2, sampling_ratio: 2 },
        opset: 10,
      },
    ],
  }),
  defineOp({
    op: 'OneHot',
    since: [9, 11],
    gradient: 'zero',
    cost: () => noCost,
    integers(node, i) {
      const depth = i === 0 ? scalarOf(node.inputs[1]) : null
      return depth === null ? undefined : { below: depth }
    },
    samples: [
      {
        name: 'last axis',
        inputs: [indices([0, 2, -1]), { dims: [], type: 'int64', values: [3] }, { dims: [2], values: [0, 1] }],
      },
    ],
  }),
]
