/** `score`: storage and operations of a model by the rules of the MicroNet Challenge, from its graph alone. */
import { typedSamples } from '../analysis/one-sample.ts'
import { modelError, usageError } from '../base/errors.ts'
import { parseOptions } from '../base/options.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Model } from '../graph/model.ts'
import { unpackProducts } from '../ops/packed-product.ts'
import { toWorkingOpset } from '../ops/raise-opset.ts'
import { inlineFunctions } from '../passes/inline-functions.ts'
import { inputDims } from '../samples/input-shapes.ts'
import { type Constants, evaluateKnown, knownValues } from './constants.ts'
import { Counter } from './count.ts'
import { requireKnown } from './countable.ts'
import {
  type Accumulator,
  type Reference,
  references,
  type ScoreOptions,
  type ScoreReport,
  scoreOf,
  scoreOptions,
  type Totals,
  totals,
} from './report.ts'

/** Width at which storage and multiplications of a network without quantisers may be counted. */
const FREEBIE_BITS = 16

/**
 * Counts a model. Work is that of one image: symbolic batch sizes are 1, fixed ones divide.
 *
 * @throws MncError (blame: model) for a construct that the rules do not cover: nothing is counted as zero because it is
 * unknown.
 */
export async function score(model: Model, options: ScoreOptions = {}): Promise<ScoreReport> {
  const { reference, accumulator, floatBits } = parseOptions(scoreOptions, options, 'score')
  if (floatBits !== 16 && floatBits !== 32) throw usageError(`score: --float-bits must be 16 or 32, not ${floatBits}`)
  const { graph, constants, batch } = await prepare(model)
  const countAt = (bits: number): ReturnType<Counter['count']> => new Counter(constants, bits).count(graph.nodes())
  const count = countAt(floatBits)
  const layers = count.layers.map((l) => ({
    ...l,
    macs: l.macs / batch,
    mults: l.mults / batch,
    adds: { fp32: l.adds.fp32 / batch, adderTree: l.adds.adderTree / batch },
  }))
  const sum = (of: (l: (typeof layers)[number]) => number): number => layers.reduce((s, l) => s + of(l), 0)
  const storage = sum((l) => l.storage)
  const mults = sum((l) => l.mults)
  const byAccumulator: Record<Accumulator, Totals> = {
    fp32: totals(
      storage,
      mults,
      sum((l) => l.adds.fp32),
      reference,
    ),
    'adder-tree': totals(
      storage,
      mults,
      sum((l) => l.adds.adderTree),
      reference,
    ),
  }
  const chosen = byAccumulator[accumulator]
  const names = Object.keys(references) as Reference[]
  const byReference = Object.fromEntries(names.map((r) => [r, scoreOf(storage, chosen.operations, r)]))
  return {
    reference,
    accumulator,
    floatBits,
    parameters: count.parameters,
    macs: count.macs / batch,
    storage,
    ...chosen,
    quantized: count.quantized,
    byAccumulator,
    byReference: byReference as Record<Reference, number>,
    freebie: count.quantized ? null : freebie(countAt(FREEBIE_BITS), countAt(32), batch, reference),
    layers,
  }
}

type Counted = ReturnType<Counter['count']>

function freebie(narrow: Counted, wide: Counted, batch: number, reference: Reference): ScoreReport['freebie'] {
  const storage = narrow.layers.reduce((s, l) => s + l.storage, 0)
  const mults = narrow.layers.reduce((s, l) => s + l.mults, 0) / batch
  const adds = wide.layers.reduce((s, l) => s + l.adds.fp32, 0) / batch
  return { storage, ...totals(storage, mults, adds, reference) }
}

interface Prepared {
  readonly graph: Model['graph']
  readonly constants: Constants
  readonly batch: number
}

/** A copy with one image per run, at the opset that cost rules are written for, with types and constants known. */
async function prepare(model: Model): Promise<Prepared> {
  const copy = cloneModel(model)
  copy.graph.fixDefaults()
  inlineFunctions(copy)
  unpackProducts(copy.graph)
  toWorkingOpset(copy)
  requireKnown(copy.graph.nodes(), knownValues(copy.graph))
  const dims = inputDims(copy)
  const batch = new Set(Object.values(dims).map((list) => list[0]))
  for (const { name } of copy.graph.fed)
    if (!dims[name]?.slice(1).every((d) => typeof d === 'number' || (d && batch.has(d))))
      throw modelError(
        'dynamic-shape',
        `input '${name}' has sizes that are not fixed, so the number of operations is unknown`,
        {
          next: 'give them with --dim or --input-shape',
        },
      )
  const { model: work, samples } = await typedSamples(copy, (why) => {
    throw modelError('unknown-shape', why)
  })
  const constants = await evaluateKnown(work)
  return { graph: work.graph, constants, batch: samples }
}
