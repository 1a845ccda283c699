/** Options of a check that both the command line and recipes have, and the gates they set. */
import { MncError, usageError } from '../base/errors.ts'
import { type OptionsOf, optionTable } from '../base/options.ts'
import { points } from '../base/shares.ts'
import { batchOption } from '../data/loader-options.ts'
import { metricNamed } from '../evaluate/metrics/chosen.ts'
import { metricRegistry } from '../evaluate/metrics/index.ts'
import type { CheckResult } from './check.ts'

export const checkOptions = optionTable({
  limit: { type: 'integer', minimum: 1, description: 'Images to use; all by default' },
  batch: batchOption(100),
  maxDrop: {
    type: 'share',
    description: 'Gate: exit 3 if accuracy drops by more than this share (0.01 or 1% is one point)',
  },
  maxChange: {
    type: 'share',
    minimum: 0,
    description: 'Gate: exit 3 if accuracy moves by more than this share, down or up, at either optimisation level',
  },
  metric: {
    type: 'strings',
    placeholder: 'NAME',
    get description(): string {
      return `Also measure these of both models: ${metricRegistry.names.join(', ')}`
    },
    get suggestions(): readonly string[] {
      return metricRegistry.names
    },
  },
  maxWorse: {
    type: 'number',
    minimum: 0,
    placeholder: 'X',
    description:
      "Gate: exit 3 if a metric of --metric is worse than the reference's by more than this, in its own unit",
  },
})

/** What a check must not exceed. */
export type CheckGates = Pick<ParsedCheckOptions, 'maxDrop' | 'maxChange' | 'maxWorse'>

export const gatesOf = ({ maxDrop, maxChange, maxWorse }: CheckGates): CheckGates => ({ maxDrop, maxChange, maxWorse })

/** A usage error for a metric that there is none of, and for a bound of none. */
export function refuseMetrics({ metric, maxWorse }: Pick<ParsedCheckOptions, 'metric' | 'maxWorse'>): void {
  for (const name of metric ?? []) metricNamed(name)
  if (maxWorse !== undefined && metric === undefined)
    throw usageError('--max-worse is about --metric', 'say which: --metric NAME')
}

export type ParsedCheckOptions = OptionsOf<typeof checkOptions>

/** Gate error where the result is outside the options' bounds; `file` names the model checked. */
export function gateCheck(
  { drop, byOptimisation, metrics = {} }: Pick<CheckResult, 'drop' | 'byOptimisation' | 'metrics'>,
  { maxDrop, maxChange, maxWorse }: CheckGates,
  file: string,
): void {
  if (maxDrop !== undefined && drop !== null && drop > maxDrop + SLACK)
    throw gate('max-drop', `accuracy drops by ${points(drop)}, more than --max-drop ${points(maxDrop)}`, file)
  const moved = Math.max(...Object.values(byOptimisation).map((level) => Math.abs(level.drop ?? 0)))
  if (maxChange !== undefined && moved > maxChange + SLACK)
    throw gate('max-change', `accuracy moves by ${points(moved)}, more than --max-change ${points(maxChange)}`, file)
  for (const [name, { reference, model, worse }] of Object.entries(metrics))
    if (maxWorse !== undefined && !(worse <= maxWorse + SLACK))
      throw gate(
        'max-worse',
        `${name} is ${figure(model)}, and the reference's ${figure(reference)}: worse by ${figure(worse)}, more than --max-worse ${maxWorse}`,
        file,
      )
}

const figure = (x: number): string => String(Number(x.toPrecision(5)))

/** Fractions of a few thousand images are far coarser; 0.9035 - 0.9025 must not count as more than 0.001. */
const SLACK = 1e-9

const gate = (code: string, message: string, file: string): MncError =>
  new MncError(message, { code, blame: 'gate', file })
