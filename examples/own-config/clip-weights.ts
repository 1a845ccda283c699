import { definePass, Tensor, weightLayers } from 'mnc'

export const clipWeights = definePass({
  name: 'clip-weights',
  summary: 'Limit weights to a multiple of the standard deviation of their layer',
  options: {
    sigmas: { type: 'number', exclusiveMinimum: 0, default: 3, description: 'Standard deviations that are allowed' },
  },
  preserves: 'interface',
  run(model, { sigmas }) {
    let changed = false
    for (const { weight, tensor } of weightLayers(model.graph)) {
      const values = tensor.toFloat32()
      const limit = sigmas * Math.sqrt(values.reduce((sum, w) => sum + w * w, 0) / values.length)
      if (!weight.constant || values.every((w) => Math.abs(w) <= limit)) continue
      weight.setConstant(
        Tensor.float32(
          tensor.dims,
          values.map((w) => Math.max(-limit, Math.min(limit, w))),
        ),
      )
      changed = true
    }
    return changed
  },
})
