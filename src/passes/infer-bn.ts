/**
 * Puts BatchNormalization that a file holds in training mode into inference form: y = (x - mean) / sqrt(var + eps) with the
 * running mean and variance in place of the batch's. In training mode a sample's output depends on the other samples in
 * its batch; exporters leave it in a file by mistake (training_mode = 1; before opset 14 more than one output; before 7
 * is_test = 0).
 *
 * Statistics that the node also outputs are the running ones afterwards, which inference does not change. Bodies of If,
 * Loop and Scan and functions are looked into too. Does not apply to statistics that are computed: they are used as they
 * are.
 */
import { optionTable } from '../base/options.ts'
import { useRunningStatistics } from '../layers/training-mode.ts'
import { definePass } from '../pass-manager/define-pass.ts'

export const inferBn = definePass({
  name: 'infer-bn',
  summary:
    'Switch BatchNormalization from training mode to inference: running statistics instead of those of the batch',
  options: optionTable({}),
  preserves: 'interface',
  run: useRunningStatistics,
})
