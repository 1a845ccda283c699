/**
 * DenseNet-BC for small images (Huang et al. 2017): 3x3 stem to 2 growth channels; three blocks of
 * n = (depth - 4) / 6 layers, each BN-ReLU-conv1x1 to bottleneck x growth channels, BN-ReLU-conv3x3 to growth
 * channels, concatenated to its input; between blocks BN-ReLU-conv1x1 to compression x channels and 2x2 average
 * pooling; BN-ReLU-global average pooling-fully connected.
 */
import { usageError } from '../base/errors.ts'
import { defineNetwork, imageOptions } from './define-network.ts'
import type { Feature } from './layers.ts'

const BLOCKS = 3

export const densenetBc = defineNetwork({
  family: 'densenet-bc',
  summary: 'DenseNet with bottlenecks and compression, for small images',
  options: {
    depth: { type: 'integer', minimum: 10, default: 100, description: 'Number of layers with weights' },
    growth: { type: 'integer', minimum: 1, default: 12, description: 'Channels that each dense layer adds' },
    ...imageOptions,
    compression: {
      type: 'number',
      exclusiveMinimum: 0,
      maximum: 1,
      default: 0.5,
      description: 'Fraction of the channels that a transition keeps',
    },
    bottleneck: {
      type: 'integer',
      minimum: 1,
      default: 4,
      description: 'Channels of a 1x1 convolution, as a multiple of the growth',
    },
  },
  build({ depth, growth, classes, size, channels, compression, bottleneck }, net) {
    if ((depth - 4) % 6 !== 0)
      throw usageError(`densenet-bc: --depth ${depth} is not 6 n + 4`, 'take 10, 16, 22, 28, 40, 100 or 172, say')
    const normRelu = (x: Feature, norm: string, relu: string): Feature => net.relu(net.batchNorm(x, norm), relu)

    let x = net.conv(net.input({ channels, size }), 'stem', 2 * growth, { kernel: 3 })
    for (let block = 1; block <= BLOCKS; block++) {
      for (let layer = 1; layer <= (depth - 4) / 6; layer++) {
        const at = `block${block}.layer${layer}`
        const narrow = normRelu(x, `${at}.bn1`, `${at}.relu1`)
        const wide = net.conv(narrow, `${at}.conv1`, bottleneck * growth, { kernel: 1 })
        const added = net.conv(normRelu(wide, `${at}.bn2`, `${at}.relu2`), `${at}.conv2`, growth, { kernel: 3 })
        x = net.concat([x, added], `${at}.concat`)
      }
      if (block === BLOCKS) break
      const at = `transition${block}`
      const kept = Math.max(1, Math.floor(x.channels * compression))
      x = net.conv(normRelu(x, `${at}.bn`, `${at}.relu`), `${at}.conv`, kept, { kernel: 1 })
      x = net.pool(x, `${at}.pool`, 'AveragePool')
    }
    const pooled = net.globalAveragePool(normRelu(x, 'bn', 'relu'), 'pool')
    return net.output(net.linear(pooled, 'fc', classes, 'logits'))
  },
})
