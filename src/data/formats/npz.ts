/** numpy archives: readers/npz.ts. */
import { defineFormat } from './define-format.ts'

export const npz = defineFormat({
  name: 'npz',
  place: 'FILE',
  summary: 'numpy archive: arrays images and labels (or x and y), or an array for each input',
  async open(place, split, { memory, map }) {
    const { openArchive } = await import('../readers/npz.ts')
    return openArchive(place, split, memory, map)
  },
})
