/** The part of Fashion-MNIST that comes with the package. */
import { packageFile } from '../../base/package-files.ts'
import { defineFormat } from './define-format.ts'

/** Of the full training split, as published; names from the set's README. */
const fashionMnist = {
  statistics: async () => ({ mean: [0.286], std: [0.353] }),
  classNames: 'T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot'.split(','),
}

export const embedded = defineFormat({
  name: 'embedded',
  place: null,
  summary: 'the 9,000 + 2,000 images of Fashion-MNIST that come with mnc',
  async open(_, split, { memory }) {
    const { openIdx } = await import('../readers/idx.ts')
    return openIdx(packageFile('data/fashion-mnist'), split, memory, { name: `embedded#${split}`, ...fashionMnist })
  },
})
