/** Options of a training run, declared once for the command line, recipes and the library. */
import { type OptionsOf, optionTable } from '../base/options.ts'
import { augmentNames, batchOption, workersOption } from '../data/loader-options.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import { deviceOptions, threadsOption } from '../runtime/device-options.ts'
import { type LossName, lossRegistry } from './losses.ts'

export const optimizerNames = ['sgd', 'adamw'] as const
export const scheduleNames = ['cosine', 'step', 'linear', 'constant'] as const

export const maskScheduleNames = ['constant', 'cubic'] as const

/** Options of `train` and their help, by name. */
export const trainOptions = optionTable({
  epochs: {
    type: 'number',
    exclusiveMinimum: 0,
    default: 1,
    description: 'Passes over the training set; may be a fraction',
  },
  maxSteps: { type: 'integer', minimum: 1, description: 'Stop after this many steps, even within an epoch' },
  batch: batchOption(64, 'Images per run of the step graph'),
  accumulate: {
    type: 'integer',
    minimum: 1,
    default: 1,
    description: 'Batches over which one step averages its gradient, for more images per step than fit in memory',
  },
  memory: {
    type: 'string',
    placeholder: 'BYTES',
    description:
      'Keep the process under so much memory, e.g. 2GB: activations are computed again rather than kept, then batches are divided and gradients accumulated',
  },
  ema: {
    type: 'number',
    minimum: 0,
    exclusiveMaximum: 1,
    default: 0,
    description: 'Decay of a moving average of the weights, which is then what is evaluated and written; 0: none',
  },
  loss: {
    type: 'choice',
    enum: lossRegistry.names as readonly LossName[],
    isOpen: true,
    description:
      'For all outputs, or by name (globs); by default ce without a teacher, and with one reverse-kl for scores and nmse for other outputs',
  },
  lossWeight: {
    type: 'numberMap',
    description: 'Factors on the losses of outputs, by name (globs); 1 by default, 0 leaves an output out',
  },
  lossAxis: {
    type: 'numberMap',
    description:
      'Class axes of outputs that are scores, by name (globs); by default the axis of the softmax that follows',
  },
  alpha: {
    type: 'number',
    minimum: 0,
    maximum: 1,
    default: 1,
    description: 'Weight of the teacher loss; the rest is cross-entropy',
  },
  temperature: {
    type: 'number',
    exclusiveMinimum: 0,
    default: 4,
    description: 'Softens both distributions of a KL loss; lower it for a teacher that is already undecided',
  },
  labelSmoothing: {
    type: 'share',
    minimum: 0,
    below: true,
    default: 0,
    description: 'Share of each label that is spread over all classes',
  },
  lr: { type: 'number', minimum: 0, description: 'Initial learning rate; 0.1 for sgd, 0.001 for adamw' },
  schedule: {
    type: 'string',
    enum: scheduleNames,
    default: 'cosine',
    description: 'Schedule of the learning rate, applied at every step',
  },
  milestones: {
    type: 'numbers',
    default: [0.5, 0.75],
    description: 'Where --schedule step lowers the learning rate, as fractions of the run',
  },
  gamma: { type: 'number', exclusiveMinimum: 0, default: 0.1, description: 'Factor of each drop' },
  warmupEpochs: { type: 'number', minimum: 0, default: 0, description: 'Epochs of linear warm-up' },
  warmupSteps: { type: 'integer', minimum: 0, description: 'Steps of linear warm-up, in place of --warmup-epochs' },
  warmupFrom: { type: 'number', minimum: 0, default: 0.001, description: 'Learning rate at the start of the warm-up' },
  optimizer: { type: 'string', enum: optimizerNames, default: 'sgd', description: 'Update rule' },
  momentum: {
    type: 'number',
    minimum: 0,
    exclusiveMaximum: 1,
    default: 0.9,
    description: 'Momentum of sgd, beta1 of adamw',
  },
  nesterov: { type: 'boolean', default: false, description: 'Nesterov momentum' },
  weightDecay: {
    type: 'number',
    minimum: 0,
    default: 1e-4,
    description: 'Weight decay: L2 (sgd) or decoupled (adamw)',
  },
  decayAll: {
    type: 'boolean',
    default: true,
    description: 'Decay biases and BN parameters too; --no-decay-all leaves them out',
  },
  clipNorm: {
    type: 'number',
    minimum: 0,
    default: 0,
    description: 'Largest global norm of the gradient; 0: no clipping',
  },
  lrFactor: { type: 'numberMap', description: 'Learning-rate factors for parameters, by name (globs)' },
  relativeLr: {
    type: 'boolean',
    default: false,
    description:
      'Scale the learning rate of each parameter by its root mean square at the start, at least 0.001; for adamw',
  },
  precision: {
    type: 'string',
    enum: ['float32', 'float16'],
    default: 'float32',
    description:
      'float16: compute layers and everything between them in float16, with float32 weights and loss scaling; for GPUs',
  },
  bn: {
    type: 'string',
    enum: ['batch', 'frozen'],
    default: 'batch',
    description: 'Normalise by batch statistics, or keep the running ones',
  },
  teacherBn: {
    type: 'string',
    enum: ['running', 'batch'],
    default: 'running',
    description: 'Statistics that the teacher normalises by; the published pipeline uses batch',
  },
  maskUpdateEvery: {
    type: 'integer',
    minimum: 0,
    default: 50,
    description: 'Steps between updates of moving prune masks from the latent weights',
  },
  maskUpdateUntil: {
    type: 'integer',
    minimum: 0,
    default: 0,
    description: 'Step up to which prune masks move; 0: they stay as the pass made them',
  },
  maskSchedule: {
    type: 'string',
    enum: maskScheduleNames,
    default: 'constant',
    description: 'Sparsity of moving masks: full from the start, or growing from 0 until --mask-update-until',
  },
  cacheFeatures: {
    type: 'boolean',
    default: true,
    description: 'With --augment none, compute the output of a frozen front once per image and keep it in memory',
  },
  scales: {
    type: 'string',
    enum: ['learn', 'refit', 'keep'],
    default: 'learn',
    description:
      'Quantiser scales: trained like weights (LSQ), refitted to the weights every epoch, or kept as they are',
  },
  augment: {
    type: 'string',
    default: 'standard',
    placeholder: 'NAME|FILE',
    suggestions: augmentNames,
    description: 'Augmentation: none, standard (crop and flip), micronet, or a policy FILE',
  },
  valFraction: {
    type: 'share',
    minimum: 0,
    below: true,
    default: 0,
    description: 'Part of the training set held out to choose the best epoch',
  },
  metric: {
    type: 'string',
    placeholder: 'NAME',
    description:
      'What chooses the best epoch on the part held out, as of eval --metric; accuracy by default, mse without labels',
  },
  patience: {
    type: 'integer',
    minimum: 0,
    default: 0,
    description: 'Stop after this many epochs without a better one; 0: never',
  },
  limit: { type: 'integer', minimum: 1, description: 'Train on the first N images only' },
  workers: { ...workersOption, description: 'Threads that prepare batches' },
  ...finiteOptions,
  ...deviceOptions,
  native: {
    type: 'boolean',
    default: true,
    description: 'Use native kernels on the CPU where they are installed; --no-native: standard operators alone',
  },
  threads: { ...threadsOption, description: 'Threads of the engine; 0: one per core' },
})

/** Options of `train`, defaults filled in. */
export type TrainOptions = OptionsOf<typeof trainOptions>
export type { TrainOptionsInput } from './train-options.generated.ts'
