/** Made from the declarations by `npm run generate`; do not edit. */

import type { Share } from '../base/options.ts'

/** Options of `train`. */
export type TrainOptionsInput = {
  /** Passes over the training set; may be a fraction. Default: 1 */
  readonly epochs?: number | undefined
  /** Stop after this many steps, even within an epoch */
  readonly maxSteps?: number | undefined
  /** Images per run of the step graph. Default: 64 */
  readonly batch?: number | undefined
  /** Batches over which one step averages its gradient, for more images per step than fit in memory. Default: 1 */
  readonly accumulate?: number | undefined
  /** Keep the process under so much memory, e.g. 2GB: activations are computed again rather than kept, then batches are divided and gradients accumulated */
  readonly memory?: string | undefined
  /** Decay of a moving average of the weights, which is then what is evaluated and written; 0: none. Default: 0 */
  readonly ema?: number | undefined
  /** For all outputs, or by name (globs); by default ce without a teacher, and with one reverse-kl for scores and nmse for other outputs */
  readonly loss?: 'ce' | 'kl' | 'reverse-kl' | 'mse' | 'nmse' | 'l1' | (string & {}) | Readonly<Record<string, 'ce' | 'kl' | 'reverse-kl' | 'mse' | 'nmse' | 'l1' | (string & {})>> | undefined
  /** Factors on the losses of outputs, by name (globs); 1 by default, 0 leaves an output out */
  readonly lossWeight?: Readonly<Record<string, number>> | undefined
  /** Class axes of outputs that are scores, by name (globs); by default the axis of the softmax that follows */
  readonly lossAxis?: Readonly<Record<string, number>> | undefined
  /** Weight of the teacher loss; the rest is cross-entropy. Default: 1 */
  readonly alpha?: number | undefined
  /** Softens both distributions of a KL loss; lower it for a teacher that is already undecided. Default: 4 */
  readonly temperature?: number | undefined
  /** Share of each label that is spread over all classes. Default: 0 */
  readonly labelSmoothing?: Share | undefined
  /** Initial learning rate; 0.1 for sgd, 0.001 for adamw */
  readonly lr?: number | undefined
  /** Schedule of the learning rate, applied at every step. Default: "cosine" */
  readonly schedule?: 'cosine' | 'step' | 'linear' | 'constant' | undefined
  /** Where --schedule step lowers the learning rate, as fractions of the run. Default: [0.5,0.75] */
  readonly milestones?: readonly number[] | undefined
  /** Factor of each drop. Default: 0.1 */
  readonly gamma?: number | undefined
  /** Epochs of linear warm-up. Default: 0 */
  readonly warmupEpochs?: number | undefined
  /** Steps of linear warm-up, in place of --warmup-epochs */
  readonly warmupSteps?: number | undefined
  /** Learning rate at the start of the warm-up. Default: 0.001 */
  readonly warmupFrom?: number | undefined
  /** Update rule. Default: "sgd" */
  readonly optimizer?: 'sgd' | 'adamw' | undefined
  /** Momentum of sgd, beta1 of adamw. Default: 0.9 */
  readonly momentum?: number | undefined
  /** Nesterov momentum. Default: false */
  readonly nesterov?: boolean | undefined
  /** Weight decay: L2 (sgd) or decoupled (adamw). Default: 0.0001 */
  readonly weightDecay?: number | undefined
  /** Decay biases and BN parameters too; --no-decay-all leaves them out. Default: true */
  readonly decayAll?: boolean | undefined
  /** Largest global norm of the gradient; 0: no clipping. Default: 0 */
  readonly clipNorm?: number | undefined
  /** Learning-rate factors for parameters, by name (globs) */
  readonly lrFactor?: Readonly<Record<string, number>> | undefined
  /** Scale the learning rate of each parameter by its root mean square at the start, at least 0.001; for adamw. Default: false */
  readonly relativeLr?: boolean | undefined
  /** float16: compute layers and everything between them in float16, with float32 weights and loss scaling; for GPUs. Default: "float32" */
  readonly precision?: 'float32' | 'float16' | undefined
  /** Normalise by batch statistics, or keep the running ones. Default: "batch" */
  readonly bn?: 'batch' | 'frozen' | undefined
  /** Statistics that the teacher normalises by; the published pipeline uses batch. Default: "running" */
  readonly teacherBn?: 'running' | 'batch' | undefined
  /** Steps between updates of moving prune masks from the latent weights. Default: 50 */
  readonly maskUpdateEvery?: number | undefined
  /** Step up to which prune masks move; 0: they stay as the pass made them. Default: 0 */
  readonly maskUpdateUntil?: number | undefined
  /** Sparsity of moving masks: full from the start, or growing from 0 until --mask-update-until. Default: "constant" */
  readonly maskSchedule?: 'constant' | 'cubic' | undefined
  /** With --augment none, compute the output of a frozen front once per image and keep it in memory. Default: true */
  readonly cacheFeatures?: boolean | undefined
  /** Quantiser scales: trained like weights (LSQ), refitted to the weights every epoch, or kept as they are. Default: "learn" */
  readonly scales?: 'learn' | 'refit' | 'keep' | undefined
  /** Augmentation: none, standard (crop and flip), micronet, or a policy FILE. Default: "standard" */
  readonly augment?: string | undefined
  /** Part of the training set held out to choose the best epoch. Default: 0 */
  readonly valFraction?: Share | undefined
  /** What chooses the best epoch on the part held out, as of eval --metric; accuracy by default, mse without labels */
  readonly metric?: string | undefined
  /** Stop after this many epochs without a better one; 0: never. Default: 0 */
  readonly patience?: number | undefined
  /** Train on the first N images only */
  readonly limit?: number | undefined
  /** Threads that prepare batches. Default: 1 */
  readonly workers?: number | undefined
  /** Continue where weights or calibration data contain NaN or infinity (scales are then fitted to the other values) */
  readonly allowNonfinite?: boolean | undefined
  /** Where graphs run: cpu, webgpu, cuda, dml, coreml, tfjs or tfjs:BACKEND; auto: the fastest available. Default: "cpu" */
  readonly device?: string | undefined
  /** Use native kernels on the CPU where they are installed; --no-native: standard operators alone. Default: true */
  readonly native?: boolean | undefined
  /** Threads of the engine; 0: one per core. Default: 0 */
  readonly threads?: number | undefined
}
