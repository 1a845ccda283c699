/** The channel block of the engine's blocked kernels on this machine. */
import { Graph } from '../../graph/graph.ts'
import { Model } from '../../graph/model.ts'
import { Tensor } from '../../graph/tensor.ts'
import { useBlockedLayout } from '../../lowerings/blocked/index.ts'
import type { Session } from '../executor.ts'

/**
 * The engine's channel block, found by trying: a small convolution in each layout against the plain one. 0 where no
 * layout gives the same numbers (then nothing is to be rewritten).
 */
export async function findBlock(load: (model: Model) => Promise<Session>): Promise<number> {
  for (const block of [16, 8]) {
    try {
      const session = await load(probe(block))
      const out = await session.run({ x: ramp([1, 16, 5, 5]), w: ramp([16, 16, 3, 3]) })
      await session.dispose()
      const [plain, blocked] = [out.plain!.view('float32'), out.blocked!.view('float32')]
      if (plain.every((v, i) => Math.abs(v - blocked[i]!) < 1e-4)) return block
    } catch {
      // an engine without these kernels
    }
  }
  return 0
}

function probe(block: number): Model {
  const model = new Model(new Graph('probe'))
  const { graph } = model
  const x = graph.addInput('x', { elem: 'float32', dims: [1, 16, 5, 5] })
  const w = graph.addInput('w', { elem: 'float32', dims: [16, 16, 3, 3] })
  const b = graph.append()
  const attributes = { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }
  graph.addOutput(b.op('Conv', [x, w], attributes, { name: 'plain' }))
  const twin = b.op('Conv', [x, w], attributes)
  graph.addOutput(b.op('Identity', [twin], {}, { name: 'blocked' }))
  useBlockedLayout(model, block, [twin.producer!])
  return model
}

/** Small numbers that differ from their neighbours, so that a wrong layout shows. */
function ramp(dims: readonly number[]): Tensor {
  const size = dims.reduce((p, d) => p * d, 1)
  return Tensor.float32(
    dims,
    Float32Array.from({ length: size }, (_, i) => ((i * 7919) % 97) / 97 - 0.5),
  )
}
