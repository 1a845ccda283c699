/**
 * MobileNetV3-small (Howard et al. 2019): inverted residuals with ReLU, then h-swish, most with squeeze-and-excitation behind an
 * h-sigmoid; a 1x1 convolution to 576 channels, global average pooling, two fully connected layers. 2,542,856 parameters for 1000 classes.
 * The dropout before the last layer is left out.
 */
import { defineNetwork } from './define-network.ts'
import { convNormAct, invertedResidual, mobileOptions, rounded, strides } from './mobile.ts'

/** Kernel, expanded channels, channels, squeeze-and-excitation, activation, stride. */
const BLOCKS = [
  [3, 16, 16, true, 'relu', 2],
  [3, 72, 24, false, 'relu', 2],
  [3, 88, 24, false, 'relu', 1],
  [5, 96, 40, true, 'hardSwish', 2],
  [5, 240, 40, true, 'hardSwish', 1],
  [5, 240, 40, true, 'hardSwish', 1],
  [5, 120, 48, true, 'hardSwish', 1],
  [5, 144, 48, true, 'hardSwish', 1],
  [5, 288, 96, true, 'hardSwish', 2],
  [5, 576, 96, true, 'hardSwish', 1],
  [5, 576, 96, true, 'hardSwish', 1],
] as const
const HIDDEN = 1024

export const mobilenetV3Small = defineNetwork({
  family: 'mobilenet-v3-small',
  summary: 'MobileNetV3-small: h-swish, squeeze-and-excitation',
  options: mobileOptions,
  build({ classes, size, channels, reduction }, net) {
    const stride = strides('mobilenet-v3-small', reduction)
    const act = 'hardSwish'
    let x = convNormAct(net, net.input({ channels, size }), 'stem', 16, { kernel: 3, stride: stride(2), act })
    BLOCKS.forEach(([kernel, expanded, out, excites, own, paper], i) => {
      const squeeze = { squeezed: rounded(expanded / 4), act: 'relu', gate: 'hard-sigmoid' } as const
      const block = { kernel, expanded, out, stride: stride(paper), act: own, ...(excites && { excite: squeeze }) }
      x = invertedResidual(net, x, `block${i + 1}`, block)
    })
    x = convNormAct(net, x, 'head', 6 * x.channels, { kernel: 1, act })
    const hidden = net.hardSwish(net.linear(net.globalAveragePool(x, 'pool'), 'fc1', HIDDEN), 'fc1.act')
    return net.output(net.linear(hidden, 'fc2', classes, 'logits'))
  },
})
