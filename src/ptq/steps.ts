/**
 * Which steps post-training quantisation takes, in which order:
 *
 *   before   the float network prepared: fold-constants, infer-bn, fold-bn, equalize, smooth
 *   prune    masks, where zeros are asked for, in front of equalize; all behind is measured against the network without them
 *   quantize scales for weights and inputs, and for integer kernels for what lies between (quantize-outputs)
 *   behind   the rounded network brought back to the float one: search-ranges, round-weights, reconstruct, correct-bias, refine
 *
 * The result of each step of the first and last group is measured, and one that does harm is undone; exact ones, which
 * change no output, stay as they are.
 */

import { usageError } from '../base/errors.ts'
import { nearest, type OptionsOf } from '../base/options.ts'
import type { Model } from '../graph/model.ts'
import { chooseLayers } from '../layers/choose-layers.ts'
import { firstLayers } from '../layers/edge-layers.ts'
import type { WeightLayer } from '../layers/layers.ts'
import { mapNamed } from '../layers/select.ts'
import type { PassDef } from '../pass-manager/define-pass.ts'
import { passes } from '../passes/index.ts'
import type { TrainOptionsInput } from '../train/train-options.ts'
import type { Criterion } from './judge.ts'
import type { Effort, PtqOptions, ptqOptions } from './ptq-options.ts'

export type Options = Readonly<Record<string, unknown>>

export const REFINE = 'refine'
export const PRUNE = 'prune'
export const QUANTIZE = 'quantize'
export const RESCUE = 'rescue'
export const CONSTANTS = 'fold-constants'
export const OUTPUTS = 'quantize-outputs'
export const ROUND = 'round-weights'

interface PassStep {
  readonly name: string
  readonly place: 'before' | 'behind'
  /** It changes no output and is not judged. */
  readonly exact?: boolean
  /** The least effort that runs it. */
  readonly from: Effort
  /** It is about inputs: judged with weights as floats, whose rounding is yet to come. */
  readonly ofInputs?: boolean
  /** It needs no more samples. */
  readonly samples?: number
  /** It trains: of pictures it gets cropped and mirrored copies. */
  readonly trains?: boolean
  /** It does what this step before it does, and more: it is applied to what that one was applied to. */
  readonly instead?: string
  /** Weights of fewer bits leave it nothing to do. */
  readonly leastWeightBits?: number
}

const passSteps: readonly PassStep[] = [
  { name: CONSTANTS, place: 'before', exact: true, from: 'fast' },
  { name: 'infer-bn', place: 'before', exact: true, from: 'fast' },
  { name: 'fold-bn', place: 'before', exact: true, from: 'fast' },
  { name: 'equalize', place: 'before', from: 'fast' },
  // what inputs give to narrower weights is lost there
  { name: 'smooth', place: 'before', from: 'fast', leastWeightBits: 6 },
  { name: 'search-ranges', place: 'behind', from: 'fast', ofInputs: true, samples: 128 },
  { name: ROUND, place: 'behind', from: 'fast' },
  { name: 'reconstruct', place: 'behind', from: 'default', instead: ROUND, trains: true },
  { name: 'correct-bias', place: 'behind', from: 'fast' },
]

const efforts: readonly Effort[] = ['fast', 'default', 'best']

/** Steps of the optimiser; `fast` does not train. */
const REFINE_STEPS: Readonly<Record<Effort, number>> = { fast: 0, default: 120, best: 750 }

/** Steps of `reconstruct` for each block. */
const BLOCK_STEPS: Readonly<Record<Effort, number>> = { fast: 0, default: 48, best: 200 }

/** Cropped and mirrored copies of each picture for it. */
const COPIES: Readonly<Record<Effort, number>> = { fast: 0, default: 0, best: 3 }

/** From here on what earlier layers lost is so little that making up for it in the next ones adds more than it takes. */
const FINE_BITS = 6

export const copiesFor = (p: PlannedPass, { effort }: PtqOptions): number => (p.trains ? COPIES[effort] : 0)

export interface PlannedPass extends PassStep {
  readonly def: PassDef
}

/** What `without` may name. */
export const stepNames: readonly string[] = [...passSteps.map((s) => s.name), REFINE]

/** The passes that this effort runs and `without` leaves. A usage error for names in it that are not steps. */
export function plannedPasses({ effort, without = [] }: PtqOptions): readonly PlannedPass[] {
  const strange = without.find((name) => !stepNames.includes(name))
  if (strange !== undefined) {
    const near = nearest(strange, stepNames)
    throw usageError(
      `--without ${strange}: there is no such step${near ? `, did you mean '${near}'?` : ''}`,
      `the steps are ${stepNames.join(', ')}`,
    )
  }
  return passSteps.flatMap((step) => {
    const def = passes.find((p) => p.name === step.name || p.alias === step.name)
    const runs = efforts.indexOf(effort) >= efforts.indexOf(step.from) && !without.includes(step.name)
    return def && runs ? [{ ...step, def }] : []
  })
}

export const refineSteps = ({ effort, without = [] }: PtqOptions): number =>
  without.includes(REFINE) ? 0 : REFINE_STEPS[effort]

/** Sums of two products with 7-bit weights fit 16 bits, those with 8-bit ones do not (export/saturating-sums.ts). */
const INTEGER_BITS = 7

/** What was asked for, with the width of weights that goes with it. */
export const withWidth = (o: OptionsOf<typeof ptqOptions>): PtqOptions => ({
  ...o,
  weightBits: o.weightBits ?? (o.integer ? INTEGER_BITS : 8),
})

/** The options of `quantize` for this network: the first layers have widths of their own. */
export function quantizeOptions({ graph }: Model, o: PtqOptions): Options {
  const { ops, only, exclude, weightBits, activationBits, firstLayerBits, allowNonfinite } = o
  const { all, chosen } = chooseLayers(graph, o)
  const first = [...firstLayers(all)].filter((l) => chosen.includes(l))
  const widths = (bits: number, firstBits: number, given: Readonly<Record<string, number>> = {}): Options => {
    const named = mapNamed(given, chosen, 'layer')
    const raised = bits === 0 || firstBits <= bits ? [] : first.filter((l) => !named.has(l))
    return Object.fromEntries([...raised.map((l) => [nameOf(l), firstBits]), ...Object.entries(given)])
  }
  const firstWeightBits = o.integer ? Math.min(firstLayerBits, INTEGER_BITS) : firstLayerBits
  const own = {
    layerWeightBits: widths(weightBits, firstWeightBits, o.layerWeightBits),
    layerActivationBits: widths(activationBits, firstLayerBits, o.layerActivationBits),
  }
  const named = Object.entries(own).filter(([, map]) => Object.keys(map).length > 0)
  const choice = { ops, ...(only && { only }), ...(exclude && { exclude }), ...(allowNonfinite && { allowNonfinite }) }
  const groups = { ...(o.weightGroup !== undefined && { weightGroup: o.weightGroup }) }
  return { ...choice, weightBits, activationBits, ...groups, firstLayer: 'quantize', ...Object.fromEntries(named) }
}

/** Whether weights are set to zero. */
export const isSparse = ({ sparsity, layerSparsity = {} }: PtqOptions): boolean =>
  sparsity > 0 || Object.values(layerSparsity).some((s) => s > 0)

/** The options of `prune`. */
export const pruneOptions = ({ sparsity, layerSparsity, ops, only, exclude, allowNonfinite }: PtqOptions): Options => ({
  ...{ ops, sparsity, scope: 'adaptive', ...(only && { only }), ...(exclude && { exclude }) },
  ...(layerSparsity && { layerSparsity }),
  ...(allowNonfinite && { allowNonfinite }),
})

/** The options of `quantize-outputs`. */
export const outputsOptions = ({ allowNonfinite }: PtqOptions): Options => (allowNonfinite ? { allowNonfinite } : {})

const nameOf = (l: WeightLayer): string => l.name

/** The options that a pass of the list gets in addition to its defaults. */
export function passOptions({ def, instead }: PlannedPass, o: PtqOptions): Options {
  const { ops, only, exclude, weightBits, activationBits } = o
  // a factor for all branches of a sum suits none of them: pairs of layers come nearer
  const sums = 'leave'
  const shared = {
    sums,
    ops,
    only,
    exclude,
    weightBits,
    activationBits,
    allowNonfinite: o.allowNonfinite || undefined,
    pruned: isSparse(o) ? 'compensate' : undefined,
    ...(def.name === 'reconstruct' && { steps: BLOCK_STEPS[o.effort] }),
    ...(def.name === ROUND && weightBits >= FINE_BITS && { target: 'layer' }),
    // a step that is left out is not done by the one in its place either
    ...(instead && o.without?.includes(instead) && { start: 'nearest' }),
  }
  const own = Object.entries(shared).filter(([name, value]) => name in def.options && value !== undefined)
  return Object.fromEntries(own)
}

export interface RefineSetting {
  readonly samples: number
  readonly steps: number
  /** Of a parameter's root mean square, at the start of the cosine. */
  readonly rate: number
  readonly criteria: readonly Criterion[]
  readonly temperature: number
  /** Inputs are pictures, which may be cropped and mirrored. */
  readonly pictures: boolean
}

/**
 * The whole network trained against the float one: AdamW, scales of weights and inputs learned (LSQ), normalisations as
 * they are. The learning rate is relative to each parameter, so that it suits weights of any size.
 */
export function refineOptions(
  o: PtqOptions,
  { samples, steps, rate, criteria, temperature, pictures }: RefineSetting,
): TrainOptionsInput {
  const batch = Math.min(o.batch, samples)
  const stepsPerEpoch = Math.max(1, Math.floor(samples / batch))
  return {
    ...{ epochs: steps / stepsPerEpoch, batch, limit: samples },
    ...{ loss: Object.fromEntries(criteria.map((c) => [c.output, c.loss])), temperature },
    ...(criteria.some((c) => c.axis !== null) && {
      lossAxis: Object.fromEntries(criteria.flatMap((c) => (c.axis === null ? [] : [[c.output, c.axis]]))),
    }),
    ...{ optimizer: 'adamw', lr: rate, relativeLr: true, weightDecay: 0, schedule: 'cosine' },
    ...{ bn: 'frozen', scales: 'learn', augment: pictures ? 'standard' : 'none', cacheFeatures: false },
    ...{ workers: o.workers, threads: o.threads, allowNonfinite: o.allowNonfinite },
  }
}
