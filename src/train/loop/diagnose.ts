/**
 * Finds where a step went wrong: the first tensor, in the order of computation, that is not finite. A copy of the step
 * graph gets for every value v the probe sum(0 v), which is 0 where v is finite and NaN otherwise; all probes come out
 * as one vector, so the run costs little more memory than the step itself.
 *
 * A mask of -Infinity that a model uses on purpose is named too, where it comes first.
 */
import { cloneModel } from '../../graph/clone.ts'
import type { Value } from '../../graph/graph.ts'
import type { Model } from '../../graph/model.ts'
import type { Tensor } from '../../graph/tensor.ts'
import type { Executor } from '../../runtime/executor.ts'
import { inferTypes } from '../../runtime/isolated/infer-types.ts'

/** The name of the first value of `model` that is not finite for these feeds; null where all are. */
export async function firstNotFinite(
  model: Model,
  feeds: Readonly<Record<string, Tensor>>,
  executor: Executor,
): Promise<string | null> {
  for (const [name, t] of Object.entries(feeds)) if (!t.toFloat32().every(Number.isFinite)) return name
  const probed = cloneModel(model)
  const { graph } = probed
  await inferTypes(probed)
  const values = [...graph.nodes()].flatMap((n) => n.outputs).filter((v) => v?.type?.elem === 'float32') as Value[]
  if (values.length === 0) return null
  for (const v of [...graph.outputs]) graph.removeOutput(v)
  const b = graph.append()
  const probes = values.map((v) => {
    const nothing = b.op('Mul', [v, b.scalar(0)])
    return b.op('Reshape', [b.op('ReduceSum', [nothing], { keepdims: 0 }), b.ints([1])])
  })
  const all = b.op('Concat', probes, { axis: 0 }, { name: 'probes' })
  graph.addOutput(all)
  const session = await executor.load(probed, { optimization: 'basic' })
  try {
    const given = Object.fromEntries(Object.entries(feeds).filter(([name]) => session.inputNames.includes(name)))
    const out = await session.run(given)
    const at = out[all.name]!.view('float32').findIndex((x) => !Number.isFinite(x))
    return at < 0 ? null : values[at]!.name
  } finally {
    await session.dispose()
  }
}
