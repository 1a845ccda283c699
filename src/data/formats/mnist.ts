/** IDX files: readers/idx.ts. */
import { defineFormat } from './define-format.ts'

export const mnist = defineFormat({
  name: 'mnist',
  place: 'DIR',
  summary: 'MNIST, Fashion-MNIST and the like: IDX files, plain or .gz',
  async open(place, split, { memory }) {
    const { openIdx } = await import('../readers/idx.ts')
    return openIdx(place, split, memory)
  },
})
