/**
 * MobileNetV2 (Sandler et al. 2018): a 3x3 stem, 17 inverted residuals with ReLU6, a 1x1 convolution to 1280 channels, global
 * average pooling, fully connected. 3,504,872 parameters for 1000 classes, 2,236,682 for 10. For small images the first
 * strides are 1 (--reduction).
 */
import { defineNetwork } from './define-network.ts'
import { convNormAct, invertedResidual, mobileOptions, rounded, strides } from './mobile.ts'

/** Expansion, channels, blocks, stride of the first block. */
const STAGES = [
  [1, 16, 1, 1],
  [6, 24, 2, 2],
  [6, 32, 3, 2],
  [6, 64, 4, 2],
  [6, 96, 3, 1],
  [6, 160, 3, 2],
  [6, 320, 1, 1],
] as const
const HEAD = 1280

export const mobilenetV2 = defineNetwork({
  family: 'mobilenet-v2',
  summary: 'MobileNetV2: inverted residuals with ReLU6',
  options: {
    ...mobileOptions,
    multiplier: { type: 'number', exclusiveMinimum: 0, default: 1, description: 'Factor of all widths' },
  },
  build({ classes, size, channels, reduction, multiplier }, net) {
    const stride = strides('mobilenet-v2', reduction)
    const act = 'relu6'
    const stem = { kernel: 3, stride: stride(2), act } as const
    let x = convNormAct(net, net.input({ channels, size }), 'stem', rounded(32 * multiplier), stem)
    let index = 0
    for (const [expansion, width, blocks, first] of STAGES)
      for (let i = 0; i < blocks; i++) {
        const out = rounded(width * multiplier)
        const block = {
          kernel: 3,
          expanded: expansion * x.channels,
          out,
          stride: i === 0 ? stride(first) : 1,
          act,
        } as const
        x = invertedResidual(net, x, `block${++index}`, block)
      }
    x = convNormAct(net, x, 'head', rounded(HEAD * Math.max(1, multiplier)), { kernel: 1, act })
    return net.output(net.linear(net.globalAveragePool(x, 'pool'), 'fc', classes, 'logits'))
  },
})
