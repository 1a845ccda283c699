/**
 * ResNet for small images (He et al. 2016, section 4.2): depth = 6 n + 2, a 3x3 stem and three stages of n basic
 * blocks of width, 2 width and 4 width channels; each later stage begins at stride 2. Where the shape changes the
 * shortcut is option A (every second pixel, zero channels around: no parameters) or option B (1x1 convolution, BN).
 */
import { usageError } from '../base/errors.ts'
import { defineNetwork, imageOptions } from './define-network.ts'
import type { Feature } from './layers.ts'

export const resnet = defineNetwork({
  family: 'resnet',
  summary: 'ResNet with basic blocks, for small images',
  options: {
    depth: { type: 'integer', minimum: 8, default: 20, description: 'Number of layers with weights' },
    width: { type: 'integer', minimum: 1, default: 16, description: 'Channels of the first stage' },
    ...imageOptions,
    shortcut: {
      type: 'string',
      enum: ['A', 'B'],
      default: 'A',
      description: 'Shortcut where the shape changes: A slices and pads with zeros, B is a 1x1 convolution',
    },
  },
  build({ depth, width, classes, size, channels, shortcut }, net) {
    if ((depth - 2) % 6 !== 0)
      throw usageError(`resnet: --depth ${depth} is not 6 n + 2`, 'take 8, 14, 20, 32, 44, 56 or 110')
    const convNorm = (x: Feature, at: string, i: number, out: number, stride: number): Feature =>
      net.batchNorm(net.conv(x, `${at}.conv${i}`, out, { kernel: 3, stride }), `${at}.bn${i}`)
    const bypass = (x: Feature, at: string, out: number): Feature =>
      shortcut === 'A'
        ? net.slicePad(x, `${at}.shortcut`, out)
        : net.batchNorm(net.conv(x, `${at}.shortcut.conv`, out, { kernel: 1, stride: 2, pad: 0 }), `${at}.shortcut.bn`)

    const stem = net.conv(net.input({ channels, size }), 'stem.conv', width, { kernel: 3 })
    let x = net.relu(net.batchNorm(stem, 'stem.bn'), 'stem.relu')
    for (let stage = 1; stage <= 3; stage++) {
      const out = width * 2 ** (stage - 1)
      for (let block = 1; block <= (depth - 2) / 6; block++) {
        const at = `stage${stage}.block${block}`
        const shrinks = stage > 1 && block === 1
        const inner = net.relu(convNorm(x, at, 1, out, shrinks ? 2 : 1), `${at}.relu1`)
        const residual = convNorm(inner, at, 2, out, 1)
        x = net.relu(net.add(residual, shrinks ? bypass(x, at, out) : x, `${at}.add`), `${at}.relu2`)
      }
    }
    return net.output(net.linear(net.globalAveragePool(x, 'pool'), 'fc', classes, 'logits'))
  },
})
