/**
 * The library in a browser, `mnc/web`: models in memory, what is in them, passes that need no data, and exports. The bundle
 * (scripts/bundle-web.mjs) puts the files of this folder in the place of Node's parts.
 */
export { diffModels, type ModelDiff } from '../analysis/model-diff.ts'
export { type LayerInfo, type ModelInfo, modelInfo } from '../analysis/model-info.ts'
export { MncError } from '../base/errors.ts'
export { decodeModel, encodeModel } from '../codec/codec.ts'
export { printModel } from '../codec/text.ts'
export { parseModel } from '../codec/text-parse.ts'
export { type Exported, exportModel } from '../export/export-model.ts'
export type { ExportOptions } from '../export/export-options.ts'
export { cloneModel } from '../graph/clone.ts'
export { Model } from '../graph/model.ts'
export { Tensor } from '../graph/tensor.ts'
export type { PassResult } from '../pass-manager/manager.ts'
export { passes } from '../passes/index.ts'
export type * from '../passes/pass-options.generated.ts'
export { findPass, type PassName, runPass, runPass as pass } from '../passes/run-pass.ts'
export { useEngine, type WebEngine } from './engine.ts'
