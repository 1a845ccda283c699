/** A point on the way: a file that was made, what it costs, how it was judged, and where its parts lie in the work folder. */
import type { Judgement } from './panel.ts'

/** A file that was made and measured: a point of the curve of accuracy against size. */
export interface Point {
  /** `w8a8`, `mixed-2`, `tuned-1`: its folder below WORK/points. */
  readonly name: string
  /** For people: `8-bit weights and activations`. */
  readonly summary: string
  /** What it is made of; another key, and the folder holds something else. */
  readonly key: string
  /** Of the exported file. */
  readonly bytes: number
  readonly format: string
  /** Multiply-accumulates of a sample; null where shapes are unknown. */
  readonly macs: number | null
  /** Of the MicroNet Challenge; null where its rules do not know a construct. */
  readonly score: number | null
  /** Milliseconds of a run of one sample, one thread; null until it is measured. */
  readonly latency: number | null
  /** Means over the weights, and of activations over the multiply-accumulates. */
  readonly weightBits: number
  readonly activationBits: number
  readonly sparsity: number
  readonly held: Judgement
  readonly seconds: number
}

/** Files of a point's folder. */
export const POINT_FILES = {
  /** Which form was measured to be the fastest. */
  form: 'form.json',
  /** Written last: a folder without it is half made. */
  facts: 'point.json',
  recipe: 'recipe.json',
  graph: 'quantised.onnx',
  file: 'exported.onnx',
} as const
