/** Folders of numpy arrays: readers/npy-folder.ts. */
import { defineFormat } from './define-format.ts'

export const npy = defineFormat({
  name: 'npy',
  place: 'DIR',
  summary: 'one .npy array for each input, with a row for each sample',
  async open(place, split, { map }) {
    const { openNpyFolder } = await import('../readers/npy-folder.ts')
    return openNpyFolder(place, split, map)
  },
})
