/** Whether onnxruntime's integer kernels cut off sums on this processor (export/saturating-sums.ts says which and why). */
import { Model } from '../../graph/model.ts'
import { Tensor } from '../../graph/tensor.ts'
import { ortExecutor } from './ort.ts'

const TERMS = 4
const INPUT = 255
const WEIGHT = 127

let known: Promise<boolean> | undefined

/** Found out once, by the product of a row and a column. */
export function cutsOffSums(): Promise<boolean> {
  known ??= probe()
  return known
}

async function probe(): Promise<boolean> {
  const model = new Model()
  const { graph } = model
  const x = graph.addInput('x', { elem: 'uint8', dims: [1, TERMS] })
  const w = graph.addInitializer('w', Tensor.of('int8', [TERMS, 1], new Int8Array(TERMS).fill(WEIGHT)))
  graph.addOutput(graph.append().op('MatMulInteger', [x, w], {}, { name: 'y', type: { elem: 'int32', dims: [1, 1] } }))
  const session = await ortExecutor().load(model, { threads: 1 })
  try {
    const { y } = await session.run({ x: Tensor.of('uint8', [1, TERMS], new Uint8Array(TERMS).fill(INPUT)) })
    return y!.toNumbers()[0] !== TERMS * INPUT * WEIGHT
  } finally {
    await session.dispose()
  }
}
