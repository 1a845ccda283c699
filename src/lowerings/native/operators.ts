/** The names of native operators (native/operators.c), which stand in training steps in memory only. */
export const STEP_DOMAIN = 'mnc.step'

/** x, scale, bias -> y, mean, variance */
export const NORM = 'BatchNormActivation'
/** dy, x, mean, variance, scale, bias -> dx, dscale, dbias */
export const GRADIENT = 'BatchNormActivationGrad'
/** x, dy -> dw, of a 2-D convolution of one group */
export const WEIGHT_GRADIENT = 'ConvWeightGrad'
