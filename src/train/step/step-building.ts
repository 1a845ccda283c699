/** What the stages of building a training step pass to each other, in the order in which they set it. */
import { cloneModel } from '../../graph/clone.ts'
import type { Graph, Node, Value } from '../../graph/graph.ts'
import type { Model } from '../../graph/model.ts'
import type { NormLayer } from './batch-statistics.ts'
import { FlatLayout } from './flat-layout.ts'
import type { LearnedScale } from './learned-scales.ts'
import type { Decided, Source, Subject } from './objectives.ts'
import type { HostSelector, StepOptions } from './step-options.ts'
import type { Tiles } from './tile-batch.ts'

/** Constants that have become parts of one graph input. */
export interface FlatInput {
  readonly layout: FlatLayout
  /** The flat graph input; null if there is nothing in it. */
  readonly flat: Value | null
  /** The parts, in the layout's order. */
  readonly values: readonly Value[]
}

const nothing: FlatInput = { layout: new FlatLayout([]), flat: null, values: [] }

export class StepBuilding {
  /** A copy of the student, which becomes the step. */
  readonly model: Model
  /** The data input. */
  input!: Value
  /** Quantiser scales that are trained, found as pairs, which lowering removes. */
  learned: readonly LearnedScale[] = []
  trained: readonly Value[] = []
  hostConstants: readonly Value[] = []
  /** Those of `learned` whose quantisers were lowered, by name. */
  scales: ReadonlyMap<string, LearnedScale> = new Map()
  /** Weights, then quantiser scales. */
  parameters: readonly Value[] = []
  /** The outputs that have a loss, and what of the teacher they are compared with. */
  subjects: readonly Subject[] = []
  partners: ReadonlyMap<Subject, Source> = new Map()
  trainedNorms: readonly Node[] = []
  teacherNorms: readonly Node[] = []
  /** What losses read, as it was when it was made the graph's outputs. */
  compared: readonly Value[] = []
  weights: FlatInput = nothing
  host: FlatInput = nothing
  /** Names of the quantiser scales among the weights. */
  stepNames: ReadonlySet<string> = new Set()
  tiles: Tiles | null = null
  norms: readonly NormLayer[] = []
  statistics: FlatLayout = nothing.layout
  /** The flat running statistics; null where there are none. */
  running: Value | null = null
  /** The factor of each statistic in what the runs of a step have moved it by, where gradients are accumulated. */
  statisticsKeep: Float32Array = new Float32Array(0)
  /** Running means that are subtracted from what their batch means are measured on. */
  centred: ReadonlySet<string> = new Set()
  objectives: readonly Decided[] = []
  logits!: Value
  /** By output, where a loss divides by them. */
  variances: ReadonlyMap<string, number> = new Map()
  loss!: Value
  /** Of each output, where several have a loss. */
  losses: Value | null = null
  entropy: Value | null = null
  /** In mixed precision. */
  lossScale: Value | null = null
  gradients: ReadonlyMap<Value, Value> = new Map()
  /** Flat, as the weights. */
  gradient!: Value
  /** The optimiser's update, where it is a graph of its own. */
  update: Model | null = null

  constructor(
    readonly student: Model,
    readonly options: StepOptions,
    readonly isHost: HostSelector,
  ) {
    this.model = cloneModel(student)
  }

  get graph(): Graph {
    return this.model.graph
  }
}
