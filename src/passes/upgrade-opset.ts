/**
 * upgrade-opset: upgrades a model to a later version of the default ONNX domain (ops/raise-opset.ts). Where onnxruntime has no
 * kernel for a version that the model now asks for, a warning says so.
 */
import { optionTable } from '../base/options.ts'
import { NEWEST_OPSET, OLDEST_TARGET, upgradeModelTo, WORKING_OPSET } from '../ops/raise-opset.ts'
import { definePass } from '../pass-manager/define-pass.ts'
import { refusalWarning } from '../runtime/isolated/engine-refusal.ts'

const options = optionTable({
  to: {
    type: 'integer',
    description: 'Version of the default ONNX domain to upgrade the model to',
    placeholder: 'N',
    minimum: OLDEST_TARGET,
    maximum: NEWEST_OPSET,
    default: WORKING_OPSET,
  },
})

export const upgradeOpset = definePass({
  name: 'upgrade-opset',
  summary: 'Upgrade the model to a later opset',
  options,
  setsOpset: true,
  preserves: 'numerics',
  async run(model, o, ctx) {
    const changed = upgradeModelTo(model, o.to, ctx.decline)
    const warning = changed ? await refusalWarning(model) : null
    if (warning) ctx.log(warning)
    return changed
  },
})
