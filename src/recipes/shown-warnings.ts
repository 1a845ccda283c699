/**
 * Warnings about a model come up in every pass, training and measurement of every stage that is made from it. A run prints
 * each of them once for each model that its stages go back to.
 */
import type { TrainEvent } from '../train/loop/train-run.ts'
import type { Recipe, Stage } from './recipe.ts'

const WARNING = 'WARNING: '

export class ShownWarnings {
  readonly #shown = new Set<string>()
  readonly #recipe: Recipe

  constructor(recipe: Recipe) {
    this.#recipe = recipe
  }

  /** Whether a line of a stage is to be shown: all but warnings that its model had before. */
  isNew(stage: Stage, message: string): boolean {
    if (!message.startsWith(WARNING)) return true
    const key = JSON.stringify([this.#rootOf(stage), message])
    if (this.#shown.has(key)) return false
    this.#shown.add(key)
    return true
  }

  /** The event without the warnings that were shown. */
  newsOf(stage: Stage, event: TrainEvent): TrainEvent {
    if (event.kind !== 'start') return event
    return { ...event, warnings: event.warnings.filter((w) => this.isNew(stage, w)) }
  }

  /** The model from which the stage's model originally comes. */
  #rootOf({ source, name }: Stage): unknown {
    if (source.kind !== 'stage') return source.kind === 'file' ? source.path : name
    const before = this.#recipe.stages.find((s) => s.name === source.name)
    return before ? this.#rootOf(before) : source.name
  }
}
