/** CIFAR-100: readers/cifar.ts. */
import { defineFormat } from './define-format.ts'

export const cifar100 = defineFormat({
  name: 'cifar100',
  place: 'DIR',
  summary: 'CIFAR-100, binary version (train.bin, test.bin)',
  async open(place, split, { memory }) {
    const { openCifar } = await import('../readers/cifar.ts')
    return openCifar('cifar100', place, split, memory)
  },
})
