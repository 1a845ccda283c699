/** numpy archives: readers/npz.ts. */
import { defineFormat } from './define-format.ts'

export const npz = defineFormat({
  name: 'npz',
  place: 'FILE',
  summary: 'numpy archive with arrays images and labels (or x and y)',
  async open(place, split, { memory }) {
    const { openNpz } = await import('../readers/npz.ts')
    return openNpz(place, split, memory)
  },
})
