/** What the stages of an export pass to each other. */
import type { Node } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import type { Declined } from '../layers/left-weights.ts'
import { declaredOutputs } from '../pass-manager/declared-outputs.ts'
import type { CalibrationData } from '../samples/calibration-data.ts'
import type { Activation } from './activations/activations.ts'
import type { ExportFormat, ExportOptions } from './export-options.ts'
import type { Names } from './strip.ts'
import type { BatchNorms, Layer } from './weights/fold-affine.ts'
import type { Inexact } from './weights/integer-form.ts'
import type { Choice } from './weights/storage.ts'
import type { Weight } from './weights/weights.ts'

/** The layer's name and operator, which `strip` removes. */
export interface Reader {
  readonly where: string
  readonly op: string
}

/** Opens the samples that a format looks at; asked for where one does. */
export type Calibration = () => Promise<CalibrationData>

export class Exporting {
  readonly restoreOutputs: () => void
  /** Weights of layers; from `detach-weights` on only those that something reads. */
  weights: readonly Weight[] = []
  readers: ReadonlyMap<Weight, Reader> = new Map()
  /** Weights that no layer reads. */
  others: readonly Declined[] = []
  layers: ReadonlyMap<Node, Layer> = new Map()
  batchNorms: BatchNorms = { folded: 0, reduced: 0, kept: 0 }
  activations: readonly Activation[] = []
  /** Weights that come after a DequantizeLinear of integers. */
  paired: ReadonlySet<Weight> = new Set()
  choices: readonly Choice[] = []
  /** Bytes that writing the weights added to the file. */
  weightBytes = 0
  inexact: readonly Inexact[] = []
  /** How many layers have uint8 weights for these to be right everywhere. */
  unsigned = 0
  /** Layers whose sums some processors cut off (saturating-sums.ts). */
  saturating: readonly string[] = []
  /** Of values that got shorter ones. */
  names: Names = {}

  constructor(
    readonly model: Model,
    readonly format: ExportFormat,
    readonly options: ExportOptions,
    readonly log: (message: string) => void,
    readonly calibration: Calibration | null = null,
  ) {
    this.restoreOutputs = declaredOutputs(model)
  }
}
