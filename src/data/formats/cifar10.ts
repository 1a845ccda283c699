/** CIFAR-10: readers/cifar.ts. */
import { defineFormat } from './define-format.ts'

export const cifar10 = defineFormat({
  name: 'cifar10',
  place: 'DIR',
  summary: 'CIFAR-10, binary version (data_batch_1..5.bin, test_batch.bin)',
  async open(place, split, { memory }) {
    const { openCifar } = await import('../readers/cifar.ts')
    return openCifar('cifar10', place, split, memory)
  },
})
