/** The options of every pass, made from their declarations by `npm run generate`; do not edit. */

import type { Share } from '../base/options.ts'

/** Upgrade the model to a later opset */
export interface UpgradeOpsetOptions {
  /** Version of the default ONNX domain to upgrade the model to. Default: 21 */
  readonly to?: number | undefined
}

/** Replace the calls of model-local functions with their bodies */
export interface InlineFunctionsOptions {}

/** Prune weights by magnitude: Mul(W, mask), keeping the latent weights */
export interface InsertPruneMaskOptions {
  /** Share of weights to set to zero (of output channels for --pattern channel); 0.75 by default */
  readonly sparsity?: Share | undefined
  /** One magnitude threshold for all layers, one for each, or one for all by the share of a weight in its output channel, which is the same however channels are scaled. Default: "global" */
  readonly scope?: 'global' | 'layer' | 'adaptive' | undefined
  /** unstructured, N:M along input channels (2:4, 4:8), or channel. Default: "unstructured" */
  readonly pattern?: string | undefined
  /** Choose again among all weights, pruned ones included, in place of earlier masks */
  readonly replace?: boolean | undefined
  /** Operator types to treat, e.g. Conv,Gemm. Default: ["Conv"] */
  readonly ops?: readonly string[] | undefined
  /** Treat only layers with these names (globs) */
  readonly only?: readonly string[] | undefined
  /** Leave layers with these names alone (globs) */
  readonly exclude?: readonly string[] | undefined
  /** Sparsity of individual layers, by name (globs): conv1=0.5,fc=0.9, or @FILE */
  readonly layerSparsity?: Readonly<Record<string, Share>> | undefined
  /** Continue where weights or calibration data contain NaN or infinity (scales are then fitted to the other values) */
  readonly allowNonfinite?: boolean | undefined
  /** Leave alone the weights that are inputs with a default value; otherwise they become constants. Default: false */
  readonly keepOverridable?: boolean | undefined
}

/** Remove channels whose weights are all zero: smaller layers, the same outputs */
export interface RemoveChannelsOptions {
  /** Continue where weights or calibration data contain NaN or infinity (scales are then fitted to the other values) */
  readonly allowNonfinite?: boolean | undefined
  /** Leave alone the weights that are inputs with a default value; otherwise they become constants. Default: false */
  readonly keepOverridable?: boolean | undefined
}

/** Measure the statistics of BatchNormalization anew on data, layer after layer */
export interface ReestimateBnOptions {
  /** Continue where weights or calibration data contain NaN or infinity (scales are then fitted to the other values) */
  readonly allowNonfinite?: boolean | undefined
  /** Leave alone the weights that are inputs with a default value; otherwise they become constants. Default: false */
  readonly keepOverridable?: boolean | undefined
}

/** Make weights of neighbouring layers alike channel by channel, where nothing but scaling lies between */
export interface EqualizeOptions {
  /** Operator types to treat, e.g. Conv,Gemm. Default: ["*"] */
  readonly ops?: readonly string[] | undefined
  /** Treat only layers with these names (globs) */
  readonly only?: readonly string[] | undefined
  /** Leave layers with these names alone (globs) */
  readonly exclude?: readonly string[] | undefined
  /** Leave layers before a Clip (ReLU6) alone, or give it limits of its own for each channel: Min and Max. Default: "keep" */
  readonly clips?: 'keep' | 'per-channel' | undefined
  /** All branches of a sum share a factor a channel, or layers before a sum are left alone. Default: "share" */
  readonly sums?: 'share' | 'leave' | undefined
  /** Also move what a channel before a ReLU has in any case (its mean less three deviations, by the BatchNormalization folded into it) into the biases behind; outputs stay the same where no channel falls below. Default: false */
  readonly absorb?: boolean | undefined
  /** Rounds over all channels, at most. Default: 200 */
  readonly rounds?: number | undefined
  /** Continue where weights or calibration data contain NaN or infinity (scales are then fitted to the other values) */
  readonly allowNonfinite?: boolean | undefined
  /** Leave alone the weights that are inputs with a default value; otherwise they become constants. Default: false */
  readonly keepOverridable?: boolean | undefined
}

/** Move the size of input channels that stand out into the weights that read them */
export interface SmoothOptions {
  /** Operator types to treat, e.g. Conv,Gemm. Default: ["*"] */
  readonly ops?: readonly string[] | undefined
  /** Treat only layers with these names (globs) */
  readonly only?: readonly string[] | undefined
  /** Leave layers with these names alone (globs) */
  readonly exclude?: readonly string[] | undefined
  /** Strengths to try for each input: how much of its size goes to the weights. Default: [0.3,0.4,0.5,0.6,0.7,0.8] */
  readonly strengths?: readonly number[] | undefined
  /** Width of weights that the strengths are compared at, 2 to 8; 0 leaves them as they are. Default: 8 */
  readonly weightBits?: number | undefined
  /** Width of inputs that the strengths are compared at, 2 to 8; 0 leaves them as they are. Default: 8 */
  readonly activationBits?: number | undefined
  /** Continue where weights or calibration data contain NaN or infinity (scales are then fitted to the other values) */
  readonly allowNonfinite?: boolean | undefined
  /** Leave alone the weights that are inputs with a default value; otherwise they become constants. Default: false */
  readonly keepOverridable?: boolean | undefined
}

/** Split weights that are far larger than the others of their row, exactly */
export interface SplitOutliersOptions {
  /** Operator types to treat, e.g. Conv,Gemm. Default: ["*"] */
  readonly ops?: readonly string[] | undefined
  /** Treat only layers with these names (globs) */
  readonly only?: readonly string[] | undefined
  /** Leave layers with these names alone (globs) */
  readonly exclude?: readonly string[] | undefined
  /** A weight is split that is more than this times the largest of the others in its row. Default: 3 */
  readonly ratio?: number | undefined
  /** Share of its input channels that a layer may get more; one at least. Default: 0.05 */
  readonly growth?: number | undefined
  /** Width of weights that the parts are made for, 2 to 8; 0 leaves them as they are. Default: 8 */
  readonly weightBits?: number | undefined
  /** Continue where weights or calibration data contain NaN or infinity (scales are then fitted to the other values) */
  readonly allowNonfinite?: boolean | undefined
  /** Leave alone the weights that are inputs with a default value; otherwise they become constants. Default: false */
  readonly keepOverridable?: boolean | undefined
}

/** Quantise weights and activations to real 4-bit (2 to 8) integers: QuantizeLinear -> DequantizeLinear */
export interface InsertFakeQuantOptions {
  /** Width of weights, 2 to 8; 0 leaves them as they are. Default: 4 */
  readonly weightBits?: number | undefined
  /** Width of the layers' inputs, 2 to 8; 0 leaves them as they are. Default: 4 */
  readonly activationBits?: number | undefined
  /** Operator types to treat, e.g. Conv,Gemm. Default: ["Conv"] */
  readonly ops?: readonly string[] | undefined
  /** Treat only layers with these names (globs) */
  readonly only?: readonly string[] | undefined
  /** Leave layers with these names alone (globs) */
  readonly exclude?: readonly string[] | undefined
  /** The first layers: keep their input float, treat them like others, or leave them alone. Default: "skip-input" */
  readonly firstLayer?: 'skip-input' | 'quantize' | 'skip' | undefined
  /** The last layers: treat them like others, or leave them alone. Default: "quantize" */
  readonly lastLayer?: 'quantize' | 'skip' | undefined
  /** Weight bits of individual layers, by name (globs): fc=8,conv1=0, or @FILE */
  readonly layerWeightBits?: Readonly<Record<string, number>> | undefined
  /** Activation bits of individual layers, by name (globs), or @FILE */
  readonly layerActivationBits?: Readonly<Record<string, number>> | undefined
  /** Weight scales: alternating least squares, grid search of the squared error, or no clipping. Default: "als" */
  readonly weightScale?: 'als' | 'mse' | 'max' | undefined
  /** One weight scale per output channel, or per tensor. Default: "channel" */
  readonly granularity?: 'channel' | 'tensor' | undefined
  /** Weights of an output channel that share a scale, a power of two from 16 to 256, in layers other than convolutions; without it one scale for the channel */
  readonly weightGroup?: number | undefined
  /** Activation scales from calibration data: least squared error, no clipping, percentile, or entropy. Default: "mse" */
  readonly calibration?: 'mse' | 'max' | 'percentile' | 'entropy' | undefined
  /** Inputs that can be negative: unsigned integers with a zero point, or signed integers symmetric about 0. Default: "zero-point" */
  readonly signedInputs?: 'symmetric' | 'zero-point' | undefined
  /** For --calibration percentile: percentage of values that are not clipped. Default: 99.99 */
  readonly percentile?: number | undefined
  /** Continue where weights or calibration data contain NaN or infinity (scales are then fitted to the other values) */
  readonly allowNonfinite?: boolean | undefined
  /** Leave alone the weights that are inputs with a default value; otherwise they become constants. Default: false */
  readonly keepOverridable?: boolean | undefined
}

/** Quantise what layers, sums, products and pools give, so that an int8 export runs entirely in integers */
export interface QuantizeOutputsOptions {
  /** Width of the values, 2 to 8. Default: 8 */
  readonly bits?: number | undefined
  /** Activation scales from calibration data: least squared error, no clipping, percentile, or entropy. Default: "mse" */
  readonly calibration?: 'mse' | 'max' | 'percentile' | 'entropy' | undefined
  /** Inputs that can be negative: unsigned integers with a zero point, or signed integers symmetric about 0. Default: "zero-point" */
  readonly signedInputs?: 'symmetric' | 'zero-point' | undefined
  /** For --calibration percentile: percentage of values that are not clipped. Default: 99.99 */
  readonly percentile?: number | undefined
  /** Continue where weights or calibration data contain NaN or infinity (scales are then fitted to the other values) */
  readonly allowNonfinite?: boolean | undefined
  /** Leave alone the weights that are inputs with a default value; otherwise they become constants. Default: false */
  readonly keepOverridable?: boolean | undefined
}

/** Choose scales of quantised inputs by the error of the layers behind, not of the inputs */
export interface SearchRangesOptions {
  /** Continue where weights or calibration data contain NaN or infinity (scales are then fitted to the other values) */
  readonly allowNonfinite?: boolean | undefined
  /** Leave alone the weights that are inputs with a default value; otherwise they become constants. Default: false */
  readonly keepOverridable?: boolean | undefined
}

/** Round quantised weights so that their layers’ outputs stay, not the weights (GPTQ) */
export interface RoundWeightsOptions {
  /** Operator types to treat, e.g. Conv,Gemm. Default: ["*"] */
  readonly ops?: readonly string[] | undefined
  /** Treat only layers with these names (globs) */
  readonly only?: readonly string[] | undefined
  /** Leave layers with these names alone (globs) */
  readonly exclude?: readonly string[] | undefined
  /** Keep what a layer makes of the inputs that it gets, or what it makes in the float network of its own. Default: "network" */
  readonly target?: 'layer' | 'network' | undefined
  /** For --target network: part of the way that weights go to make up for what came before. Default: 1 */
  readonly pull?: number | undefined
  /** Let the bias take up the mean error, one where there is none, or keep it. Default: "correct" */
  readonly biases?: 'correct' | 'keep' | undefined
  /** Steps of the weights: the best behind rounding, the best weighted by inputs, or as they are. Default: "search" */
  readonly steps?: 'search' | 'weighted' | 'keep' | undefined
  /** Which columns are decided first: those of the largest inputs, or from the last to the first. Default: "activation" */
  readonly order?: 'activation' | 'given' | undefined
  /** Added to the diagonal of the second moment of inputs, as a part of its mean. Default: 0.01 */
  readonly damping?: number | undefined
  /** Passes of coordinate descent behind rounding, at most. Default: 4 */
  readonly sweeps?: number | undefined
  /** Weights held at zero by a mask: taken for zeros, or made up for by the others. Default: "zero" */
  readonly pruned?: 'zero' | 'compensate' | undefined
  /** Leave layers alone whose outputs are sums of more products. Default: 4608 */
  readonly largest?: number | undefined
  /** Continue where weights or calibration data contain NaN or infinity (scales are then fitted to the other values) */
  readonly allowNonfinite?: boolean | undefined
  /** Leave alone the weights that are inputs with a default value; otherwise they become constants. Default: false */
  readonly keepOverridable?: boolean | undefined
}

/** Train quantised weights, rounding and steps block by block against the float network */
export interface ReconstructOptions {
  /** Operator types to treat, e.g. Conv,Gemm. Default: ["*"] */
  readonly ops?: readonly string[] | undefined
  /** Treat only layers with these names (globs) */
  readonly only?: readonly string[] | undefined
  /** Leave layers with these names alone (globs) */
  readonly exclude?: readonly string[] | undefined
  /** Steps for each block. Default: 48 */
  readonly steps?: number | undefined
  /** Join neighbouring blocks until they have this many layers. Default: 4 */
  readonly layers?: number | undefined
  /** Train the weights, whether each is rounded up or down (AdaRound), or neither. Default: "direct" */
  readonly rounding?: 'direct' | 'adaround' | 'keep' | undefined
  /** Numbers that a block gives count by how much the outputs depend on them, or all alike. Default: "fisher" */
  readonly loss?: 'fisher' | 'nmse' | undefined
  /** Rounding to begin with. Default: "round-weights" */
  readonly start?: 'round-weights' | 'nearest' | undefined
  /** Weights held at zero by a mask: taken for zeros, or made up for by the others. Default: "zero" */
  readonly pruned?: 'zero' | 'compensate' | undefined
  /** Part of a block’s inputs that come from the float network (QDrop). Default: 0.5 */
  readonly drop?: number | undefined
  /** Factor of all learning rates. Default: 1 */
  readonly rate?: number | undefined
  /** Continue where weights or calibration data contain NaN or infinity (scales are then fitted to the other values) */
  readonly allowNonfinite?: boolean | undefined
  /** Leave alone the weights that are inputs with a default value; otherwise they become constants. Default: false */
  readonly keepOverridable?: boolean | undefined
}

/** Take the mean error of quantised layers up in their biases */
export interface CorrectBiasOptions {
  /** Operator types to treat, e.g. Conv,Gemm. Default: ["*"] */
  readonly ops?: readonly string[] | undefined
  /** Treat only layers with these names (globs) */
  readonly only?: readonly string[] | undefined
  /** Leave layers with these names alone (globs) */
  readonly exclude?: readonly string[] | undefined
  /** The float network: an ONNX file with layers of the same names; the model without its quantisers by default */
  readonly reference?: string | undefined
  /** Continue where weights or calibration data contain NaN or infinity (scales are then fitted to the other values) */
  readonly allowNonfinite?: boolean | undefined
  /** Leave alone the weights that are inputs with a default value; otherwise they become constants. Default: false */
  readonly keepOverridable?: boolean | undefined
}

/** Mark nodes and weights that training must leave alone */
export interface FreezeSubgraphOptions {
  /** Freeze nodes by node, output or weight name (globs) */
  readonly names?: readonly string[] | undefined
  /** Freeze nodes of these operator types */
  readonly ops?: readonly string[] | undefined
  /** Freeze everything except these (globs) */
  readonly allBut?: readonly string[] | undefined
}

/** Switch BatchNormalization from training mode to inference: running statistics instead of those of the batch */
export interface InferBnOptions {}

/** Fold BatchNormalization into the layer before or after it */
export interface FoldBnOptions {
  /** Continue where weights or calibration data contain NaN or infinity (scales are then fitted to the other values) */
  readonly allowNonfinite?: boolean | undefined
  /** Leave alone the weights that are inputs with a default value; otherwise they become constants. Default: false */
  readonly keepOverridable?: boolean | undefined
}

/** Compute everything that depends only on constants */
export interface FoldConstantsOptions {
  /** Results larger than this are folded only if they are no larger than what they are computed from. Default: 1048576 */
  readonly maxBytes?: number | undefined
  /** Leave alone the weights that are inputs with a default value; otherwise they become constants. Default: false */
  readonly keepOverridable?: boolean | undefined
}

/** Remove nodes, optional outputs and initializers that nothing uses */
export interface EliminateDeadOptions {}

/** Put a teacher network into the graph as a frozen subgraph next to the student */
export interface MergeTeacherOptions {
  /** The teacher: an ONNX model with the same input */
  readonly teacher?: string | undefined
}

/** Rewrite QuantizeLinear -> DequantizeLinear as float arithmetic with a straight-through gradient */
export interface LowerFakeQuantOptions {
  /** Keep the gradient of the scales (LSQ). Default: false */
  readonly learnScales?: boolean | undefined
  /** Leave alone the weights that are inputs with a default value; otherwise they become constants. Default: false */
  readonly keepOverridable?: boolean | undefined
}

/** Convert float16 and bfloat16 to float32, including inputs and outputs */
export interface WidenFloatsOptions {
  /** Leave alone the weights that are inputs with a default value; otherwise they become constants. Default: false */
  readonly keepOverridable?: boolean | undefined
}

/** Rewrite operators without a gradient rule of their own (LSTM, Attention, losses) as simpler ones */
export interface DecomposeOpsOptions {
  /** Size for symbolic dims of the inputs. Default: 1 */
  readonly batch?: number | undefined
  /** Leave alone the weights that are inputs with a default value; otherwise they become constants. Default: false */
  readonly keepOverridable?: boolean | undefined
}

/** Append the gradients of all trainable parameters to the graph */
export interface AutodiffOptions {
  /** Size for symbolic dims of the inputs. Default: 1 */
  readonly batch?: number | undefined
  /** Leave alone the weights that are inputs with a default value; otherwise they become constants. Default: false */
  readonly keepOverridable?: boolean | undefined
}

/** By the name of the pass, and by its short name. */
export interface PassOptions {
  /** Upgrade the model to a later opset */
  'upgrade-opset': UpgradeOpsetOptions
  /** Replace the calls of model-local functions with their bodies */
  'inline-functions': InlineFunctionsOptions
  /** Prune weights by magnitude: Mul(W, mask), keeping the latent weights */
  'insert-prune-mask': InsertPruneMaskOptions
  /** Prune weights by magnitude: Mul(W, mask), keeping the latent weights */
  'prune': InsertPruneMaskOptions
  /** Remove channels whose weights are all zero: smaller layers, the same outputs */
  'remove-channels': RemoveChannelsOptions
  /** Measure the statistics of BatchNormalization anew on data, layer after layer */
  'reestimate-bn': ReestimateBnOptions
  /** Make weights of neighbouring layers alike channel by channel, where nothing but scaling lies between */
  'equalize': EqualizeOptions
  /** Move the size of input channels that stand out into the weights that read them */
  'smooth': SmoothOptions
  /** Split weights that are far larger than the others of their row, exactly */
  'split-outliers': SplitOutliersOptions
  /** Quantise weights and activations to real 4-bit (2 to 8) integers: QuantizeLinear -> DequantizeLinear */
  'insert-fake-quant': InsertFakeQuantOptions
  /** Quantise weights and activations to real 4-bit (2 to 8) integers: QuantizeLinear -> DequantizeLinear */
  'quantize': InsertFakeQuantOptions
  /** Quantise what layers, sums, products and pools give, so that an int8 export runs entirely in integers */
  'quantize-outputs': QuantizeOutputsOptions
  /** Choose scales of quantised inputs by the error of the layers behind, not of the inputs */
  'search-ranges': SearchRangesOptions
  /** Round quantised weights so that their layers’ outputs stay, not the weights (GPTQ) */
  'round-weights': RoundWeightsOptions
  /** Train quantised weights, rounding and steps block by block against the float network */
  'reconstruct': ReconstructOptions
  /** Take the mean error of quantised layers up in their biases */
  'correct-bias': CorrectBiasOptions
  /** Mark nodes and weights that training must leave alone */
  'freeze-subgraph': FreezeSubgraphOptions
  /** Mark nodes and weights that training must leave alone */
  'freeze': FreezeSubgraphOptions
  /** Switch BatchNormalization from training mode to inference: running statistics instead of those of the batch */
  'infer-bn': InferBnOptions
  /** Fold BatchNormalization into the layer before or after it */
  'fold-bn': FoldBnOptions
  /** Compute everything that depends only on constants */
  'fold-constants': FoldConstantsOptions
  /** Remove nodes, optional outputs and initializers that nothing uses */
  'eliminate-dead': EliminateDeadOptions
  /** Put a teacher network into the graph as a frozen subgraph next to the student */
  'merge-teacher': MergeTeacherOptions
  /** Rewrite QuantizeLinear -> DequantizeLinear as float arithmetic with a straight-through gradient */
  'lower-fake-quant': LowerFakeQuantOptions
  /** Convert float16 and bfloat16 to float32, including inputs and outputs */
  'widen-floats': WidenFloatsOptions
  /** Rewrite operators without a gradient rule of their own (LSTM, Attention, losses) as simpler ones */
  'decompose-ops': DecomposeOpsOptions
  /** Append the gradients of all trainable parameters to the graph */
  'autodiff': AutodiffOptions
}
