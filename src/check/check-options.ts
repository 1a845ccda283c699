/** Options of a check that both the command line and recipes have, and the gates they set. */
import { MncError } from '../base/errors.ts'
import { type OptionsOf, optionTable } from '../base/options.ts'
import { points } from '../base/shares.ts'
import { batchOption } from '../data/loader-options.ts'
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
})

export type ParsedCheckOptions = OptionsOf<typeof checkOptions>

/** Gate error where the result is outside the options' bounds; `file` names the model checked. */
export function gateCheck(
  { drop, byOptimisation }: Pick<CheckResult, 'drop' | 'byOptimisation'>,
  { maxDrop, maxChange }: Pick<ParsedCheckOptions, 'maxDrop' | 'maxChange'>,
  file: string,
): void {
  if (maxDrop !== undefined && drop !== null && drop > maxDrop + SLACK)
    throw gate('max-drop', `accuracy drops by ${points(drop)}, more than --max-drop ${points(maxDrop)}`, file)
  const moved = Math.max(...Object.values(byOptimisation).map((level) => Math.abs(level.drop ?? 0)))
  if (maxChange !== undefined && moved > maxChange + SLACK)
    throw gate('max-change', `accuracy moves by ${points(moved)}, more than --max-change ${points(maxChange)}`, file)
}

/** Fractions of a few thousand images are far coarser; 0.9035 - 0.9025 must not count as more than 0.001. */
const SLACK = 1e-9

const gate = (code: string, message: string, file: string): MncError =>
  new MncError(message, { code, blame: 'gate', file })
