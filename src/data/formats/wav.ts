/** Folders of WAV files: readers/sounds.ts. */
import { defineFormat } from './define-format.ts'

export const wav = defineFormat({
  name: 'wav',
  place: 'DIR',
  summary: 'WAV files at one rate: one sub-folder per class, or labels.csv, or no labels',
  isSound: true,
  async open(place, split, how) {
    const { openSounds } = await import('../readers/sounds.ts')
    return openSounds(place, split, how)
  },
})
