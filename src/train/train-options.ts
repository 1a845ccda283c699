/** Options of a training run, declared once for the command line, recipes and the library. */
import { type OptionsInput, type OptionsOf, optionTable } from '../base/options.ts'
import { workersOption } from '../data/loader-options.ts'
import { finiteOptions } from '../layers/finite-options.ts'
import { deviceOptions, threadsOption } from '../runtime/device-options.ts'

export const lossNames = ['ce', 'kl', 'reverse-kl', 'mse', 'nmse', 'l1'] as const
export const optimizerNames = ['sgd', 'adamw'] as const
export const scheduleNames = ['cosine', 'step', 'linear', 'constant'] as const

export const maskScheduleNames = ['constant', 'cubic'] as const

export const trainOptions = optionTable({
  epochs: {
    type: 'number',
    exclusiveMinimum: 0,
    default: 1,
    description: 'passes over the training set; a fraction is a part of one',
  },
  maxSteps: { type: 'integer', minimum: 1, description: 'stop after this many steps, also within an epoch' },
  batch: { type: 'integer', minimum: 1, default: 64, description: 'images a run of the step graph' },
  accumulate: {
    type: 'integer',
    minimum: 1,
    default: 1,
    description: 'batches that one step averages its gradient over, for more images a step than memory holds',
  },
  ema: {
    type: 'number',
    minimum: 0,
    exclusiveMaximum: 1,
    default: 0,
    description: 'decay of a moving average of the weights, which is then evaluated and written; 0: none',
  },
  loss: {
    type: 'choice',
    enum: lossNames,
    description:
      'for all outputs, or by name (globs); unless given, ce without a teacher, and with one reverse-kl for scores and nmse for other outputs',
  },
  lossWeight: {
    type: 'numberMap',
    description: 'factors on the losses of outputs by name (globs), 1 unless given; 0 leaves an output out',
  },
  lossAxis: {
    type: 'numberMap',
    description:
      'axes of the classes, of outputs that are scores by name (globs); unless given, that of the softmax behind',
  },
  alpha: {
    type: 'number',
    minimum: 0,
    maximum: 1,
    default: 1,
    description: 'share of the teacher loss; the rest is cross entropy',
  },
  temperature: {
    type: 'number',
    exclusiveMinimum: 0,
    default: 4,
    description: 'softens both distributions of a KL loss; less for a teacher that is undecided by itself',
  },
  labelSmoothing: {
    type: 'number',
    minimum: 0,
    exclusiveMaximum: 1,
    default: 0,
    description: 'share of the label spread over all classes',
  },
  lr: { type: 'number', minimum: 0, description: 'initial learning rate; 0.1 for sgd, 0.001 for adamw' },
  schedule: {
    type: 'string',
    enum: scheduleNames,
    default: 'cosine',
    description: 'of the learning rate, set each step',
  },
  milestones: {
    type: 'numbers',
    default: [0.5, 0.75],
    description: 'where --schedule step drops, as fractions of the run',
  },
  gamma: { type: 'number', exclusiveMinimum: 0, default: 0.1, description: 'factor of each drop' },
  warmupEpochs: { type: 'number', minimum: 0, default: 0, description: 'epochs of linear warm-up' },
  warmupSteps: { type: 'integer', minimum: 0, description: 'the same in steps' },
  warmupFrom: { type: 'number', minimum: 0, default: 0.001, description: 'learning rate at the start of the warm-up' },
  optimizer: { type: 'string', enum: optimizerNames, default: 'sgd', description: 'update rule' },
  momentum: {
    type: 'number',
    minimum: 0,
    exclusiveMaximum: 1,
    default: 0.9,
    description: "sgd's momentum, adamw's beta1",
  },
  nesterov: { type: 'boolean', default: false, description: 'Nesterov momentum' },
  weightDecay: {
    type: 'number',
    minimum: 0,
    default: 1e-4,
    description: 'L2 (sgd) or decoupled (adamw) decay',
  },
  decayAll: {
    type: 'boolean',
    default: true,
    description: 'decay biases and BN parameters too; --no-decay-all leaves them out',
  },
  clipNorm: {
    type: 'number',
    minimum: 0,
    default: 0,
    description: 'largest global norm of the gradient; 0: not clipped',
  },
  lrFactor: { type: 'numberMap', description: 'learning-rate factors of parameters by name (globs)' },
  precision: {
    type: 'string',
    enum: ['float32', 'float16'],
    default: 'float32',
    description: 'float16: layers and what lies between them, weights in float32, loss scaled; for GPUs',
  },
  bn: {
    type: 'string',
    enum: ['batch', 'frozen'],
    default: 'batch',
    description: 'normalise by batch statistics, or keep the running ones',
  },
  teacherBn: {
    type: 'string',
    enum: ['running', 'batch'],
    default: 'running',
    description: "the teacher's statistics; batch is the published way",
  },
  maskUpdateEvery: {
    type: 'integer',
    minimum: 0,
    default: 50,
    description: 'steps between recomputations of prune masks from the latent weights, where they move',
  },
  maskUpdateUntil: {
    type: 'integer',
    minimum: 0,
    default: 0,
    description: 'step up to which prune masks move; 0: they stay as the pass made them',
  },
  maskSchedule: {
    type: 'string',
    enum: maskScheduleNames,
    default: 'constant',
    description: 'sparsity of moving masks: full from the start, or grown from 0 until --mask-update-until',
  },
  cacheFeatures: {
    type: 'boolean',
    default: true,
    description: 'with --augment none, compute what a frozen front makes of each image once and keep it in memory',
  },
  scales: {
    type: 'string',
    enum: ['learn', 'refit', 'keep'],
    default: 'learn',
    description: 'quantiser steps: trained like weights (LSQ), fitted to the weights anew every epoch, or as they are',
  },
  augment: {
    type: 'string',
    default: 'standard',
    description: 'none, standard (crop and flip), micronet, or a policy FILE',
  },
  valFraction: {
    type: 'number',
    minimum: 0,
    exclusiveMaximum: 1,
    default: 0,
    description: 'part of the training set held out to choose the best epoch',
  },
  patience: {
    type: 'integer',
    minimum: 0,
    default: 0,
    description: 'stop after this many epochs without a better one; 0: never',
  },
  limit: { type: 'integer', minimum: 1, description: 'train on the first N images only' },
  workers: { ...workersOption, description: 'threads that prepare batches' },
  ...finiteOptions,
  ...deviceOptions,
  threads: { ...threadsOption, description: 'threads of the engine; 0: one a core' },
})

export type TrainOptions = OptionsOf<typeof trainOptions>
export type TrainOptionsInput = OptionsInput<typeof trainOptions>
