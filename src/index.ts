/** The library: what the commands do, as typed functions. */

export { type DiffOptions, diffModels, type ModelDiff } from './analysis/model-diff.ts'
export { type ModelInfo, modelInfo } from './analysis/model-info.ts'
export { type Blame, MncError, type MncErrorDetails } from './base/errors.ts'
export type { LongRun } from './base/long-run.ts'
export type { OptionSpec, OptionsInput, OptionsOf, OptionTable, Share } from './base/options.ts'
export { type CheckBatch, type CheckOptions, type CheckResult, checkModels } from './check/check.ts'
export { compareLayers, type LayerDifference } from './check/check-layers.ts'
export { decodeModel, encodeModel, readModel, type WriteOptions, writeModel } from './codec/codec.ts'
export { printModel } from './codec/text.ts'
export { parseModel } from './codec/text-parse.ts'
export { type CompressRun, compress } from './compress/compress.ts'
export type { CompressOptions, CompressOptionsInput } from './compress/compress-options.ts'
export type { CompressEvent, CompressResult, Found } from './compress/events.ts'
export type { Point } from './compress/point.ts'
export { type Taken, takePoint } from './compress/take.ts'
export { type Config, defineConfig, useConfig } from './config/config.ts'
export { findConfig } from './config/find.ts'
export { loadConfig } from './config/load.ts'
export { ArraySet, type ArraySetInit, type Column, type ColumnMap, type SampleSet } from './data/array-set.ts'
export { type CalibrationOptions, calibrationData } from './data/calibration.ts'
export type { Dataset, Split } from './data/dataset.ts'
export { type DatasetDef, defineDataset } from './data/formats/own.ts'
export { openDataset } from './data/open.ts'
export {
  type Preprocess,
  type PreprocessOverrides,
  preprocessOf,
  readPreprocess,
  writePreprocess,
} from './data/preprocess.ts'
export { pixelsOf, type SampleBatch, sampleBatches } from './data/sample-set.ts'
export { type EvaluateOptions, type Evaluation, evaluate } from './evaluate/evaluate.ts'
export { type Measurement, type MeasureOptions, type MetricResult, measure } from './evaluate/measure.ts'
export {
  defineMetric,
  type Measured,
  type MeasuredOutput,
  type Measuring,
  type MetricDef,
  type MetricSample,
} from './evaluate/metrics/define-metric.ts'
export { metrics } from './evaluate/metrics/index.ts'
export { type Explanation, explainKernels } from './export/explain.ts'
export { type Exported, exportModel } from './export/export-model.ts'
export type { ExportFormat, ExportOptions } from './export/export-options.ts'
export type { ExportReport } from './export/export-report.ts'
export { type ExportSource, gateSize, modelBytes } from './export/gate-size.ts'
export { type ExportedFor, exportFor, type ForOptions, type Picked, type Tried } from './export/targets/export-for.ts'
export { targets } from './export/targets/index.ts'
export { defineTarget, type Form, type TargetDef } from './export/targets/target.ts'
export { type Attribute, type AttributeLike, float, floats, graphAttribute } from './graph/attribute.ts'
export type { Builder } from './graph/builder.ts'
export { cloneModel } from './graph/clone.ts'
export { Graph, type Node, type NodeSpec, type Value } from './graph/graph.ts'
export { Model } from './graph/model.ts'
export { Tensor } from './graph/tensor.ts'
export type { Dim, ElementType, TensorType } from './graph/types.ts'
export { verifyModel } from './graph/verify.ts'
export { type Candidate, type LatencyRun, measureLatency, type Setting } from './latency/measure.ts'
export { type OperatorProfile, profileOperators } from './latency/operators.ts'
export { type WeightLayer, weightLayers } from './layers/layers.ts'
export type { Declined, LeftWeights } from './layers/left-weights.ts'
export { defineNetwork, imageOptions, type NetworkDef } from './models/define-network.ts'
export { networks } from './models/index.ts'
export type { NetworkBuilder } from './models/layers.ts'
export { buildNetwork, loadSpec, type NetworkSpec } from './models/spec.ts'
export { findOp, ops } from './ops/index.ts'
export { upgradeModelTo } from './ops/raise-opset.ts'
export { definePass, type PassContext, type PassDef } from './pass-manager/define-pass.ts'
export type { PassResult } from './pass-manager/manager.ts'
export { passes } from './passes/index.ts'
export type * from './passes/pass-options.generated.ts'
export { findPass, type PassName, runPass, runPass as pass } from './passes/run-pass.ts'
export { type PtqEvent, type PtqResult, type PtqRun, type PtqStep, ptq } from './ptq/ptq.ts'
export type { PtqOptions, PtqOptionsInput } from './ptq/ptq-options.ts'
export { type RecipeFacts, recipeOf } from './ptq/recipe-of.ts'
export { type SyntheticOptions, syntheticInputs } from './ptq/synthetic/synthetic-inputs.ts'
export { estimateRecipe, type StageEstimate } from './recipes/estimate.ts'
export { loadRecipe, parseRecipe, type RecipeOverrides } from './recipes/load.ts'
export type { Recipe, Stage } from './recipes/recipe.ts'
export type { StageMetrics, StageRecord } from './recipes/record.ts'
export { reportPage } from './recipes/report.ts'
export { type ReportFacts, reportFacts } from './recipes/report-facts.ts'
export { type RunEvent, type RunOptions, type RunResult, runRecipe, type StageResult } from './recipes/run.ts'
export type { DeviceInfo, Executor, LoadOptions, Session } from './runtime/executor.ts'
export { type InferOptions, inferTypes } from './runtime/isolated/infer-types.ts'
export { ortExecutor } from './runtime/ort/ort.ts'
export type { CalibrationData } from './samples/calibration-data.ts'
export { declareShapes } from './samples/declared-shapes.ts'
export { type GivenSizes, recordSizes } from './samples/input-shapes.ts'
export { sensitivityPlot } from './sensitivity/plot.ts'
export { type Sensitivity, type SensitivityRun, scanSensitivity } from './sensitivity/sensitivity.ts'
export { type BnUpdateOptions, updateBatchNorm } from './train/loop/bn-update.ts'
export type { KindTime, LayerTime, StepProfile } from './train/loop/step-profile.ts'
export {
  type CheckpointEvent,
  type EpochEvent,
  type MemoryEvent,
  type MemoryPlan,
  type ProfileEvent,
  type StartEvent,
  type StepEvent,
  type TrainEvent,
  type TrainRun,
  type TrainSummary,
  train,
  trainSteps,
} from './train/loop/trainer.ts'
export { defineLoss, type LossDef, type LossName } from './train/losses.ts'
export type { Objective } from './train/step/objectives.ts'
export { type TrainOptions, type TrainOptionsInput, trainOptions } from './train/train-options.ts'
