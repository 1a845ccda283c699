/**
 * Runs passes: options parsed from the declaration, requires -> run -> ensures, as a pipeline of one stage (stages.ts),
 * and the pass's claim to have changed anything or not is checked against what happened. What ran is recorded in the model
 * (history.ts).
 */
import { bugError, usageError } from '../base/errors.ts'
import { stopIfAborted } from '../base/long-run.ts'
import { type OptionsOf, type OptionTable, parseOptions } from '../base/options.ts'
import { fingerprint } from '../codec/codec.ts'
import type { Model } from '../graph/model.ts'
import { requireFinite } from '../layers/finite.ts'
import { type Declined, type LeftWeights, layerWeights, leftWeights, otherWeights } from '../layers/left-weights.ts'
import { trainingWarning } from '../layers/training-mode.ts'
import { leaveEarlyOpsets } from '../ops/raise-opset.ts'
import { stoppable } from '../samples/calibration-data.ts'
import { declaredOutputs } from './declared-outputs.ts'
import type { PassContext, PassDef } from './define-pass.ts'
import { recordHistory } from './history.ts'
import { settleOverridable } from './overridable.ts'
import { overridableOptions } from './overridable-options.ts'
import { sameSnapshot, snapshot } from './snapshot.ts'
import { brokenBy, runStage } from './stages.ts'

/** Whether a pass changed anything, and what it says of it. */
export interface PassResult {
  readonly changed: boolean
  readonly declined: readonly Declined[]
  /** For a pass that changes weights: those that it left alone. */
  readonly left: LeftWeights | null
  readonly milliseconds: number
}

/**
 * Runs one pass on `model`, in place. On an error the model may be half-edited and must be dropped.
 * Errors: usage error for bad options, model error where the pass cannot apply, bug error where it broke the graph.
 */
export async function applyPass(
  model: Model,
  def: PassDef,
  options: Readonly<Record<string, unknown>> = {},
  context: Partial<PassContext> = {},
): Promise<PassResult> {
  const parsed = parseOptions(def.options, options, def.name)
  if (def.data === 'required' && !context.calibration) throw usageError(`${def.name} needs data`, 'give --data')
  const declined: Declined[] = []
  const ctx: PassContext = {
    log: context.log ?? (() => {}),
    onProgress: context.onProgress,
    signal: context.signal,
    seed: context.seed ?? 0,
    ...(context.calibration && { calibration: stoppable(context.calibration, context.signal) }),
    decline(where, reason, left) {
      const { weights, remedy } = left ?? {}
      declined.push({ where, reason, ...(weights && { weights }), ...(remedy && { remedy }) })
      context.decline?.(where, reason, left)
    },
  }
  stopIfAborted(context.signal, `interrupted before ${def.name}`)
  const before = snapshot(model)
  const input = fingerprint(model)
  const restoreOutputs = declaredOutputs(model)
  const lifted = !def.setsOpset && leaveEarlyOpsets(model, ctx.log)
  const fixed = def.bakes === true && settleOverridable(model, parsed.keepOverridable === true, ctx)
  def.requires?.(model, parsed)
  if ('allowNonfinite' in def.options && !parsed.allowNonfinite) requireFinite(model)
  const start = performance.now()
  let changed = fixed || lifted
  const run = async (): Promise<void> => {
    if (await def.run(model, parsed, ctx)) changed = true
    if (def.preserves !== 'nothing') restoreOutputs()
  }
  await runStage('pass', { name: def.name, run }, { model })
  const milliseconds = performance.now() - start
  if (def.treatsWeights)
    for (const { where, reason, weights } of otherWeights(model.graph))
      ctx.decline(where, reason, { weights: weights! })
  ensure(model, def, parsed)
  if (changed === sameSnapshot(before, snapshot(model)))
    throw bugError(
      `pass ${def.name} reports that it ${changed ? 'changed' : 'did not change'} the model, which is not true`,
    )
  const warning = trainingWarning(model)
  if (warning) ctx.log(warning)
  const metrics = { nodes: model.graph.nodeCount, declined: declined.length }
  if (changed) recordHistory(model, { pass: def.name, options: ordered(def, parsed), input, metrics })
  return { changed, declined, left: def.treatsWeights ? leftOf(model, declined) : null, milliseconds }
}

function leftOf({ graph }: Model, declined: readonly Declined[]): LeftWeights {
  const others = otherWeights(graph).reduce((n, d) => n + d.weights!, 0)
  return leftWeights(declined, layerWeights(graph) + others)
}

/** Options in the order of their declaration; those of overridable.ts where they are not the default. */
const ordered = ({ options }: PassDef, given: Readonly<Record<string, unknown>>): Record<string, unknown> => {
  const isNamed = (k: string): boolean => k in given && !(k in overridableOptions && given[k] === options[k]?.default)
  return Object.fromEntries(Object.keys(options).flatMap((k) => (isNamed(k) ? [[k, given[k]]] : [])))
}

/** The pass's own promise; the error names the pass. */
function ensure(model: Model, def: PassDef, options: OptionsOf<OptionTable>): void {
  try {
    def.ensures?.(model, options)
  } catch (cause) {
    throw brokenBy(`pass/${def.name}`, cause)
  }
}
