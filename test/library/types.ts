/** What the library's types know at compile time: `tsc` fails where one of these lines is, or is not, as it should be. */

import type { compressOptions } from '../../src/compress/compress-options.ts'
import {
  type CompressOptionsInput,
  defineConfig,
  defineDataset,
  defineLoss,
  defineMetric,
  definePass,
  defineTarget,
  findPass,
  type Model,
  type OptionsInput,
  type OptionTable,
  type PassDef,
  type PassName,
  type PassOptions,
  type PtqOptionsInput,
  pass,
  runPass,
  Tensor,
  type TrainOptionsInput,
  type trainOptions,
} from '../../src/index.ts'
import type { insertFakeQuant } from '../../src/passes/insert-fake-quant.ts'
import type { insertPruneMask } from '../../src/passes/insert-prune-mask.ts'
import type { roundWeights } from '../../src/passes/round-weights.ts'
import type { ptqOptions } from '../../src/ptq/ptq-options.ts'

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
const holds = <_T extends true>(): void => {}

/** Never run. */
export async function passesByName(model: Model): Promise<void> {
  await pass(model, 'prune', { sparsity: 0.75, scope: 'layer' })
  await pass(model, 'insert-prune-mask', { sparsity: '75%', layerSparsity: { conv1: '50%', fc: 0.9 } })
  await pass(model, 'fold-bn')
  await runPass(model, 'quantize', { weightBits: 4, layerWeightBits: { conv1: 8 } }, { seed: 3 })
  // @ts-expect-error: no such pass
  await pass(model, 'pruen')
  // @ts-expect-error: no such option
  await pass(model, 'prune', { sparsty: 0.5 })
  // @ts-expect-error: a share is a number, or a text in percent
  await pass(model, 'prune', { sparsity: 'half' })
  // @ts-expect-error: not one of the choices
  await pass(model, 'prune', { scope: 'everywhere' })
  // @ts-expect-error: an option of another pass
  await pass(model, 'fold-bn', { sparsity: 0.5 })
  const name: string = 'prune'
  // @ts-expect-error: not known to be a pass
  await pass(model, name)
  await pass(model, findPass(name), { anything: 1 })
}

const own = definePass({
  name: 'own',
  summary: 'Own',
  options: {
    to: { type: 'string', enum: ['a', 'b'], default: 'a', description: 'Where to' },
    times: { type: 'integer', description: 'How often' },
  },
  preserves: 'numerics',
  run(_, options, context) {
    holds<Equal<typeof options.to, 'a' | 'b'>>()
    holds<Equal<typeof options.times, number | undefined>>()
    holds<Equal<typeof context.seed, number>>()
    return false
  },
})

export const options = {
  losses: { loss: 'ce', lossWeight: { boxes: 0.1 }, schedule: 'cosine' } satisfies TrainOptionsInput,
  own: { loss: { boxes: 'log-cosh', '*': 'kl' } } satisfies TrainOptionsInput,
  // @ts-expect-error: no such schedule
  other: { schedule: 'cosin' } satisfies TrainOptionsInput,
  goal: { maxDrop: '1%', target: 'board' } satisfies CompressOptionsInput,
}

/** Never run. */
export async function ownPasses(model: Model): Promise<void> {
  await runPass(model, own, { to: 'b', times: 2 })
  // @ts-expect-error: not one of the choices
  await runPass(model, own, { to: 'c' })
  // @ts-expect-error: no such option
  await runPass(model, own, { form: 'a' })
}

// what is generated is what the tables give; a pass that bakes has an option more than its own
type TableOf<P> = P extends PassDef<infer T extends OptionTable> ? OptionsInput<T> : never
type Generated<N extends PassName> = Omit<PassOptions[N], 'keepOverridable'>
type Same<A, B> = Equal<{ [K in keyof A]: A[K] }, { [K in keyof B]: B[K] }>
holds<Same<Generated<'prune'>, TableOf<typeof insertPruneMask>>>()
holds<Same<Generated<'quantize'>, TableOf<typeof insertFakeQuant>>>()
holds<Same<Generated<'round-weights'>, TableOf<typeof roundWeights>>>()
holds<Same<Omit<TrainOptionsInput, 'loss'>, Omit<OptionsInput<typeof trainOptions>, 'loss'>>>()
holds<Same<PtqOptionsInput, OptionsInput<typeof ptqOptions>>>()
holds<Same<Omit<CompressOptionsInput, 'target'>, Omit<OptionsInput<typeof compressOptions>, 'target'>>>()
holds<Equal<PassOptions['prune'], PassOptions['insert-prune-mask']>>()

defineConfig({
  passes: [own],
  datasets: [defineDataset({ name: 'd', summary: 's', open: () => ({ x: Tensor.float32([1], [0]) }) })],
  losses: [defineLoss({ name: 'l', summary: 's', emit: (b, student, teacher) => b.op('Sub', [student, teacher]) })],
  metrics: [
    defineMetric({
      ...{ name: 'm', summary: 's', better: 'lower', against: 'values' },
      start: ({ classes }) => ({
        add: ({ got }) => (got.length > classes ? 'too long' : undefined),
        result: () => ({ value: 0 }),
      }),
    }),
  ],
  targets: [
    defineTarget({
      ...{ name: 't', summary: 's', pick: 'first', aim: 'bytes', quantised: true, readers: ['onnxruntime>=1.24'] },
      forms: [{ options: { format: 'int8' }, because: 'it is' }],
    }),
  ],
})
// @ts-expect-error: a metric is lower or higher when better
defineMetric({ name: 'm', summary: 's', better: 'smaller', against: 'values', start: () => ({}) })
const target = { name: 't', summary: 's', pick: 'first', aim: 'bytes', quantised: true, forms: [] } as const
// @ts-expect-error: no such reader
defineTarget({ ...target, readers: ['caffe>=1'] })
// @ts-expect-error: it has no such key
defineConfig({ pases: [] })
