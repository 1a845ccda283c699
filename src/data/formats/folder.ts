/** Folders of pictures: readers/folder.ts. */
import { defineFormat } from './define-format.ts'

export const folder = defineFormat({
  name: 'folder',
  place: 'DIR',
  summary: 'PNG, JPEG or WebP images: one sub-folder per class, or labels.csv, or no labels',
  async open(place, split, how) {
    const { openFolder } = await import('../readers/folder.ts')
    return openFolder(place, split, how)
  },
})
