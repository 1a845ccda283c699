/**
 * Classes of which the training split has no sample. Of classes with names that is an error (labelled-files.ts); numbers may stand for
 * classes that a model was trained on elsewhere, so that it is said and no more.
 */
import type { Split } from './dataset.ts'

const SHOWN = 8

/** A note, if there is reason for one. `other`: labels of the other split, where it has its own. */
export function testOnlyNote(
  place: string,
  split: Split,
  own: ArrayLike<number>,
  other: ArrayLike<number> | null,
): string[] {
  if (!other) return []
  const [train, tested] = split === 'train' ? [own, other] : [other, own]
  const known = new Set(Array.from(train))
  const only = [...new Set(Array.from(tested))].filter((label) => !known.has(label)).sort((a, b) => a - b)
  if (only.length === 0) return []
  const list = only.length > SHOWN ? `${only.slice(0, SHOWN).join(', ')}, ...` : only.join(', ')
  return [`${place}: only the test split has samples of ${only.length === 1 ? 'class' : 'classes'} ${list}`]
}
