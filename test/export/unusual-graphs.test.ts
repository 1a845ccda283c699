/** Forms that graphs of our passes take seldom, and those of other tools often. */
import { test } from 'node:test'
import { assertSame } from './errors.ts'
import { Net } from './nets.ts'

test('masked weights with one step for all channels', async () => {
  const n = new Net(3)
  const a = n.act(n.relu(n.input([1, 16, 6, 6])))
  // one output channel: a step per channel is one step
  const c = n.conv(a, 'c', 16, 1, 3, { bias: true })
  await assertSame(n.finish(n.relu(c)))
})
