/** WebDataset shards: readers/tar-set.ts. */
import { defineFormat } from './define-format.ts'

export const tar = defineFormat({
  name: 'tar',
  place: 'PATH',
  summary:
    'WebDataset shards: a .tar (or .tar.gz) file or a folder of them, with png, jpg, webp, npy, cls and json members by key',
  async open(place, split, how) {
    const { openTar } = await import('../readers/tar-set.ts')
    return openTar(place, split, how)
  },
})
