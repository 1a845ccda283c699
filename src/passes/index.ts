/** Every pass, in an explicit list, in the order a pipeline meets them; behind them the user's own. */
import { Registry } from '../base/registry.ts'
import { namesOf, type PassDef } from '../pass-manager/define-pass.ts'
import { autodiff } from './autodiff.ts'
import { correctBias } from './correct-bias.ts'
import { decomposeOps } from './decompose-ops.ts'
import { eliminateDead } from './eliminate-dead.ts'
import { equalize } from './equalize.ts'
import { foldBn } from './fold-bn.ts'
import { foldConstants } from './fold-constants.ts'
import { freezeSubgraph } from './freeze-subgraph.ts'
import { inferBn } from './infer-bn.ts'
import { inlineFunctionsPass } from './inline-functions.ts'
import { insertFakeQuant } from './insert-fake-quant.ts'
import { insertPruneMask } from './insert-prune-mask.ts'
import { lowerFakeQuant } from './lower-fake-quant.ts'
import { mergeTeacher } from './merge-teacher.ts'
import { quantizeOutputs } from './quantize-outputs.ts'
import { reconstruct } from './reconstruct.ts'
import { reestimateBn } from './reestimate-bn.ts'
import { removeChannels } from './remove-channels.ts'
import { roundWeights } from './round-weights.ts'
import { searchRanges } from './search-ranges.ts'
import { smooth } from './smooth.ts'
import { splitOutliers } from './split-outliers.ts'
import { upgradeOpset } from './upgrade-opset.ts'
import { widenFloatsPass } from './widen-floats.ts'

const builtIn: readonly PassDef[] = [
  upgradeOpset,
  inlineFunctionsPass,
  insertPruneMask,
  removeChannels,
  reestimateBn,
  equalize,
  smooth,
  splitOutliers,
  insertFakeQuant,
  quantizeOutputs,
  searchRanges,
  roundWeights,
  reconstruct,
  correctBias,
  freezeSubgraph,
  inferBn,
  foldBn,
  foldConstants,
  eliminateDead,
  mergeTeacher,
  lowerFakeQuant,
  widenFloatsPass,
  decomposeOps,
  autodiff,
]

export const passRegistry = new Registry('pass', builtIn, namesOf)
/** Every pass that there is, the configuration's own too. */
export const passes = passRegistry.all
