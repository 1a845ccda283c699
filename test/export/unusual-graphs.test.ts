/** Forms that graphs of our passes take seldom, and those of other tools often. */
import { test } from 'node:test'
import { Tensor } from '../../src/graph/tensor.ts'
import { assertSame } from './errors.ts'
import { Net } from './nets.ts'

test('masked weights with one step for all channels', async () => {
  const n = new Net(3)
  const a = n.act(n.relu(n.input([1, 16, 6, 6])))
  // one output channel: a step per channel is one step
  const c = n.conv(a, 'c', 16, 1, 3, { bias: true })
  await assertSame(n.finish(n.relu(c)))
})

/** A layer between quantisers with a normalisation behind it whose gains are as `gain` says. */
function normalised(bits: number, gain: (s: number, channel: number) => number, change?: (w: Float32Array) => void) {
  const n = new Net(3, { sparsity: 0, bits, activationBits: bits })
  const step = bits === 4 ? 0.13 : 0.01
  const a = n.act(n.relu(n.input([2, 16, 6, 6])), step)
  const c = n.conv(a, 'c', 16, 16, 3)
  const w = n.model.graph.find('c')!
  const values = Float32Array.from(w.constant!.toFloat32())
  change?.(values)
  w.setConstant(Tensor.float32(w.constant!.dims, values))
  const y = n.bn(c, 'bn', 16)
  const s = n.model.graph.find('bn.scale')!
  s.setConstant(Tensor.float32([16], s.constant!.toFloat32().map(gain)))
  return n.finish(n.relu(n.act(n.relu(y), bits === 4 ? 0.1 : 3 * step)))
}

test('the integer -128 behind a negative gain of a normalisation', async () => {
  const model = normalised(
    8,
    (s, c) => (c % 2 ? s : -s),
    (w) => w.fill(-5, 0, 40),
  )
  // 8-bit levels with a bias are not always exact
  for (const part of ['bias', 'mean'])
    model.graph.find(`bn.${part}`)!.setConstant(Tensor.float32([16], new Float32Array(16)))
  await assertSame(model, '', [{ format: 'int8' }, { format: 'int8', packedWeights: true }])
})

test('a gain of 0', async () => {
  await assertSame(normalised(4, (s, c) => (c % 2 ? s : 0)))
})
