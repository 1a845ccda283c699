/**
 * ShuffleNetV2 (Ma et al. 2018) at width 1: a 3x3 stem and 3x3 max pooling, three stages of units that work on half of the
 * channels and shuffle both halves (the first of a stage on all of them, with a stride of 2), a 1x1 convolution to 1024 channels, global
 * average pooling, fully connected. 2,278,604 parameters for 1000 classes.
 */
import { defineNetwork } from './define-network.ts'
import type { Feature, NetworkBuilder } from './layers.ts'
import { convNormAct, mobileOptions, strides } from './mobile.ts'

/** Channels, units. */
const STAGES = [
  [116, 4],
  [232, 8],
  [464, 4],
] as const

/** 1x1, depthwise 3x3, 1x1. */
function branch(net: NetworkBuilder, x: Feature, at: string, out: number, stride: number): Feature {
  const first = convNormAct(net, x, `${at}.1`, out, { kernel: 1, act: 'relu' })
  const depth = convNormAct(net, first, `${at}.2`, out, { kernel: 3, stride, depthwise: true })
  return convNormAct(net, depth, `${at}.3`, out, { kernel: 1, act: 'relu' })
}

function unit(net: NetworkBuilder, x: Feature, at: string): Feature {
  const [kept, worked] = net.halves(x, `${at}.split`)
  return net.shuffle(net.concat([kept, branch(net, worked, at, worked.channels, 1)], `${at}.concat`), `${at}.shuffle`)
}

function firstUnit(net: NetworkBuilder, x: Feature, at: string, out: number, stride: number): Feature {
  const depth = convNormAct(net, x, `${at}.shortcut.1`, x.channels, { kernel: 3, stride, depthwise: true })
  const shortcut = convNormAct(net, depth, `${at}.shortcut.2`, out / 2, { kernel: 1, act: 'relu' })
  const both = [shortcut, branch(net, x, at, out / 2, stride)]
  return net.shuffle(net.concat(both, `${at}.concat`), `${at}.shuffle`)
}

export const shufflenetV2 = defineNetwork({
  family: 'shufflenet-v2',
  summary: 'ShuffleNetV2: units on half of the channels, shuffled',
  options: mobileOptions,
  build({ classes, size, channels, reduction }, net) {
    const stride = strides('shufflenet-v2', reduction)
    let x = convNormAct(net, net.input({ channels, size }), 'stem', 24, { kernel: 3, stride: stride(2), act: 'relu' })
    if (stride(2) === 2) x = net.overlappingPool(x, 'pool1')
    STAGES.forEach(([width, units], stage) => {
      x = firstUnit(net, x, `stage${stage + 2}.unit1`, width, stride(2))
      for (let i = 2; i <= units; i++) x = unit(net, x, `stage${stage + 2}.unit${i}`)
    })
    x = convNormAct(net, x, 'head', 1024, { kernel: 1, act: 'relu' })
    return net.output(net.linear(net.globalAveragePool(x, 'pool'), 'fc', classes, 'logits'))
  },
})
