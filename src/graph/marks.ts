/**
 * Every metadata key that mnc reads or writes, `mnc.*`: whose metadata it is part of, and what it holds. Nothing else touches
 * these keys, so that here is the list of what files of mnc say beyond ONNX.
 */
import type { Node, Value } from './graph.ts'
import type { Model } from './model.ts'

const PREFIX = 'mnc.'

interface Marked {
  readonly metadata: Map<string, string>
}

type Entries = Readonly<Record<string, string>>

/** One key. `Of`: who carries it. */
class Mark<Of extends Marked, T> {
  readonly key: string
  readonly #read: (text: string) => T | undefined
  readonly #write: (value: T) => string

  constructor(name: string, read: (text: string) => T | undefined, write: (value: T) => string) {
    this.key = PREFIX + name
    this.#read = read
    this.#write = write
  }

  has(x: Of | null | undefined): boolean {
    return x?.metadata.has(this.key) === true
  }

  /** As it is written; undefined where there is none. */
  text(x: Of | null | undefined): string | undefined {
    return x?.metadata.get(this.key)
  }

  /** undefined if there is none, or if it is malformed. */
  get(x: Of | null | undefined): T | undefined {
    const text = this.text(x)
    return text === undefined ? undefined : this.#read(text)
  }

  set(x: Of, value: T): void {
    x.metadata.set(this.key, this.#write(value))
  }

  drop(x: Of): void {
    x.metadata.delete(this.key)
  }

  /** For a node that is being made. */
  entry(value: T): Entries {
    return { [this.key]: this.#write(value) }
  }
}

/** A key that is there or not. */
class Flag<Of extends Marked> extends Mark<Of, true> {
  constructor(name: string) {
    super(
      name,
      (text) => text === 'true' || undefined,
      () => 'true',
    )
  }

  readonly is = (x: Of | null | undefined): boolean => this.get(x) === true

  put(x: Of): void {
    this.set(x, true)
  }
}

const text = <Of extends Marked, T extends string = string>(name: string): Mark<Of, T> =>
  new Mark<Of, T>(
    name,
    (t) => t as T,
    (t) => t,
  )

const number = <Of extends Marked>(name: string): Mark<Of, number> =>
  new Mark<Of, number>(name, (t) => (Number.isNaN(Number(t)) ? undefined : Number(t)), String)

/** What it holds is for its reader to check. */
const json = <Of extends Marked>(name: string): Mark<Of, unknown> => new Mark<Of, unknown>(name, parsed, JSON.stringify)

function parsed(t: string): unknown {
  try {
    return JSON.parse(t)
  } catch {
    return undefined
  }
}

/** What mnc put a node or a constant there for. */
export type Role =
  | 'prune-mask'
  | 'weight-quant'
  | 'activation-quant'
  /** A quantiser's scale. */
  | 'quant-scale'
  /** The identity that keeps onnxruntime from rewriting what lies before (quant-guard.ts). */
  | 'quant-guard'
  /** Work that only compensates for the width of an engine's kernels (split-sums.ts); not a layer of the network. */
  | 'correction'

export const marks = {
  // --- of the model
  /** Names of the outputs' classes, in their order (class-names.ts). */
  classes: json<Model>('classes'),
  /** Samples a second of the sound that it takes (sample-rate.ts). */
  sampleRate: number<Model>('sample-rate'),
  /** How pixels become its input (data/preprocess.ts). */
  preprocess: json<Model>('preprocess'),
  /** Dims of its inputs where the file leaves them open (samples/input-shapes.ts). */
  inputShapes: json<Model>('input-shapes'),
  /** Passes, training stages and exports that changed it (history.ts). */
  history: json<Model>('history'),
  /** The format that it was exported to. */
  export: text<Model>('export'),
  /** Of a checkpoint: the position of the run. */
  training: json<Model>('training'),
  /** Of the best epoch's model: which run and epoch. */
  best: json<Model>('best'),

  // --- of nodes and values
  role: text<Node | Value, Role>('role'),
  /** Training leaves it alone. */
  frozen: new Flag<Node | Value>('frozen'),
  /** Width of a quantiser, or of the constant that it gives. */
  bits: number<Node | Value>('bits'),
  /** How weight scales are fitted, where not by alternating least squares. Training fits them so again. */
  fit: text<Node>('fit'),
  /** The quantiser's range is chosen by the layers behind it (search-ranges.ts). */
  rangeSearched: new Flag<Node>('range-searched'),
  /** The quantiser is there for what reads a layer's output besides layers (quantize-outputs.ts). */
  output: new Flag<Node>('output'),

  /** Its bias takes up the mean error of quantising (correct-bias.ts, round-weights.ts). */
  biasCorrected: new Flag<Node>('bias-corrected'),

  /** Weights that stood out have input channels of their own (split-outliers.ts). */
  split: new Flag<Node>('split'),
  /** What it reads has been smoothed (smooth.ts). */
  smoothed: new Flag<Node>('smoothed'),

  /** How many of its weights are the network's: an export added channels of zeros (integer-layout/align-channels.ts). */
  ownWeights: number<Node>('own-weights'),
  /** Mean and deviation of what a layer gives, by channel: of the normalisation that was folded into it. */
  outputStatistics: json<Node>('output-statistics'),

  // --- of prune masks: how they were chosen
  pattern: text<Node>('pattern'),
  /** `layer` for layers with a sparsity of their own. */
  scope: text<Node>('scope'),
  sparsity: number<Node>('sparsity'),
  /** Slots of the channels, in ranges (channel-ties.ts). */
  channels: text<Node>('channels'),

  // --- of a training step
  /** The gradient passes the node's first input unchanged (straight-through estimator). */
  gradient: text<Node, 'straight-through'>('gradient'),
  /** The name that a value has in the model that the step was built of. */
  name: text<Value>('name'),
  /** Of BatchNormalization whose input has about zero mean in every channel: one pass over it measures it. */
  centred: new Flag<Node>('centred'),
  /** Of an Identity: the mean over all processes that train together of what each has there (hints.ts). */
  overRanks: new Flag<Node>('over-ranks'),
  /** The node sums so many terms that float16 would lose the sum. */
  wide: new Flag<Node>('wide'),
  /** The node's input has the shape of its output (hints.ts). */
  pinnedShape: new Flag<Node>('pinned-shape'),
  /** What the node is for, where a step is to be profiled: a kind of work and a layer (hints.ts). */
  origin: text<Node>('origin'),
  /** The node's result is the weight gradient of a convolution (hints.ts). */
  weightGradient: json<Node>('weight-gradient'),
  /** The node's result is the gradient of an input of another (hints.ts). */
  gradientOf: json<Node>('gradient-of'),
} as const

/** The name of the initializer in a checkpoint that holds a vector of the run. */
export const stateName = (vector: string): string => `${PREFIX}state/${vector}`

/** The vector that an initializer of a checkpoint holds; null where it is one of the model's own. */
export const vectorOf = ({ name }: Value): string | null =>
  name.startsWith(stateName('')) ? name.slice(stateName('').length) : null

/** All marks of a node, for another that stands in its place. */
export const marksOf = ({ metadata }: Node): Entries =>
  Object.fromEntries([...metadata].filter(([key]) => key.startsWith(PREFIX)))

/** Sets what differs; true if anything did. */
export function putMarks({ metadata }: Node, entries: Entries): boolean {
  const differing = Object.entries(entries).filter(([key, value]) => metadata.get(key) !== value)
  for (const [key, value] of differing) metadata.set(key, value)
  return differing.length > 0
}
