/**
 * Classes of which the training split has no sample. Of classes with names that is an error (labelled-files.ts); numbers may stand for
 * classes that a model was trained on elsewhere, so that it is said, with the file that has them, and no more.
 */
import type { Split } from './dataset.ts'

/** Labels of a split, and what holds them. */
export interface FoundLabels {
  readonly labels: Iterable<number>
  fileOf(row: number): string
}

const SHOWN = 8

/** A note, if there is reason for one. `other`: of the other split, where it has its own; read as far as it takes. */
export function testOnlyNote(split: Split, own: FoundLabels, other: FoundLabels | null): string[] {
  if (!other) return []
  const [train, tested] = split === 'train' ? [own, other] : [other, own]
  const only = firstRows(tested.labels)
  for (const label of train.labels) if (only.delete(label) && only.size === 0) return []
  const [row] = only.values()
  if (row === undefined) return []
  const labels = [...only.keys()].sort((a, b) => a - b)
  const list = labels.length > SHOWN ? `${labels.slice(0, SHOWN).join(', ')}, ...` : labels.join(', ')
  const classes = labels.length === 1 ? 'class' : 'classes'
  return [`${tested.fileOf(row)}: only the test split has samples of ${classes} ${list}, which training never sees`]
}

/** By class, the first row of it. */
function firstRows(labels: Iterable<number>): Map<number, number> {
  const rows = new Map<number, number>()
  let row = 0
  for (const label of labels) {
    if (!rows.has(label)) rows.set(label, row)
    row++
  }
  return rows
}
