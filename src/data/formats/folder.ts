/** Folders of pictures: readers/folder.ts. */
import { defineFormat } from './define-format.ts'

export const folder = defineFormat({
  name: 'folder',
  place: 'DIR',
  summary: 'one sub-folder of PNG, JPEG or WebP images per class',
  async open(place, split, how) {
    const { openFolder } = await import('../readers/folder.ts')
    return openFolder(place, split, how)
  },
})
