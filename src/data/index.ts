/** Data sets, preprocessing, augmentation and loading: what the rest of mnc, and its users, call. */
export { ArraySet, type ArraySetInit, type Column, type ColumnMap, type SampleSet } from './array-set.ts'
export { type CalibrationOptions, calibrationData } from './calibration.ts'
export { Dataset, type DatasetInit, type Split, type Statistics, sharedBytes } from './dataset.ts'
export { type Batch, batchDims, evalBatches } from './eval-batches.ts'
export type { DataFormat } from './formats/define-format.ts'
export { dataFormats } from './formats/index.ts'
export { createLoader, type Loader, type LoaderOptions, type TrainBatch } from './loader.ts'
export { type DataReference, openDataset, openPictures, parseDataReference } from './open.ts'
export { type AugmentOp, type AugmentPolicy, augmentOps } from './policy.ts'
export { augmentPolicySchema, loadPolicy, parsePolicy } from './policy-file.ts'
export {
  checkClasses,
  defaultPreprocess,
  imageInput,
  type Layout,
  type Preprocess,
  type PreprocessOverrides,
  preprocessOf,
  readPreprocess,
  writePreprocess,
} from './preprocess.ts'
export { RANDOM, randomWarning } from './random-options.ts'
export { pixelsOf, type SampleBatch, sampleBatches, samplePlan } from './sample-set.ts'
