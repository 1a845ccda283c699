/**
 * EfficientNet-B0 (Tan and Le 2019): inverted residuals with swish and squeeze-and-excitation (a quarter of the block's input
 * channels), a 1x1 convolution to 1280 channels, global average pooling, fully connected. 5,288,548 parameters for 1000 classes.
 * Dropout and stochastic depth are left out.
 */
import { defineNetwork } from './define-network.ts'
import { convNormAct, invertedResidual, mobileOptions, strides } from './mobile.ts'

/** Expansion, kernel, stride of the first block, channels, blocks. */
const STAGES = [
  [1, 3, 1, 16, 1],
  [6, 3, 2, 24, 2],
  [6, 5, 2, 40, 2],
  [6, 3, 2, 80, 3],
  [6, 5, 1, 112, 3],
  [6, 5, 2, 192, 4],
  [6, 3, 1, 320, 1],
] as const

export const efficientnetB0 = defineNetwork({
  family: 'efficientnet-b0',
  summary: 'EfficientNet-B0: swish, squeeze-and-excitation',
  options: mobileOptions,
  build({ classes, size, channels, reduction }, net) {
    const stride = strides('efficientnet-b0', reduction)
    const act = 'swish'
    let x = convNormAct(net, net.input({ channels, size }), 'stem', 32, { kernel: 3, stride: stride(2), act })
    let index = 0
    for (const [expansion, kernel, first, out, blocks] of STAGES)
      for (let i = 0; i < blocks; i++) {
        const excite = { squeezed: Math.floor(x.channels / 4), act, gate: 'sigmoid' } as const
        const sizes = { kernel, expanded: expansion * x.channels, out, stride: i === 0 ? stride(first) : 1 }
        x = invertedResidual(net, x, `block${++index}`, { ...sizes, act, excite })
      }
    x = convNormAct(net, x, 'head', 1280, { kernel: 1, act })
    return net.output(net.linear(net.globalAveragePool(x, 'pool'), 'fc', classes, 'logits'))
  },
})
