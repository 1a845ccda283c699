/** The names of native operators (native/operators.c), which stand in training steps in memory only. */
export const STEP_DOMAIN = 'step.mnc'

/** x, scale, bias -> y, mean, variance */
export const NORM = 'BatchNormActivation'
/** x, other, scale, bias -> y, mean, variance: the two are added before the activation */
export const NORM_ADD = 'BatchNormAddActivation'
/** dy, x, mean, variance, scale, bias -> dx, dscale, dbias */
export const GRADIENT = 'BatchNormActivationGrad'
/** dy, z -> dz */
export const ACTIVATION_GRADIENT = 'ActivationGrad'
/** x, dy -> dw, of a 2-D convolution of one group */
export const WEIGHT_GRADIENT = 'ConvWeightGrad'

/** By operator: how many of its first inputs are feature maps, all in the same layout. */
export const featureMaps: ReadonlyMap<string, number> = new Map([
  [NORM, 1],
  [NORM_ADD, 2],
  [GRADIENT, 2],
  [ACTIVATION_GRADIENT, 2],
])
