/**
 * What the families for mobile devices share: how often they halve the image, rounded widths, and the inverted residual
 * (Sandler et al. 2018): 1x1 convolution to `expanded` channels, depthwise convolution, 1x1 convolution to `out`, each with
 * BN, the last without activation; added to its input where the shape stays.
 */
import { usageError } from '../base/errors.ts'
import type { OptionTable } from '../base/options.ts'
import { imageOptions } from './define-network.ts'
import type { ExciteOptions, Feature, NetworkBuilder } from './layers.ts'

/** What the papers' networks do to images of 224x224. */
const WHOLE = 32

export const mobileOptions = {
  ...imageOptions,
  reduction: {
    type: 'integer',
    minimum: 1,
    maximum: WHOLE,
    default: 8,
    description: 'Factor between the sides of input and last feature map, a power of 2; 32 is that of the paper',
  },
} as const satisfies OptionTable

/** The strides of a network in their order: of those of 2, the first ones become 1 until `reduction` is left. */
export function strides(family: string, reduction: number): (paper: number) => number {
  const kept = Math.log2(reduction)
  if (!Number.isInteger(kept)) throw usageError(`${family}: --reduction ${reduction} is not a power of 2`)
  let skipped = Math.log2(WHOLE) - kept
  return (paper) => (paper === 2 && skipped-- > 0 ? 1 : paper)
}

/** A multiple of 8 near `channels`, and at most a tenth below it. */
export function rounded(channels: number): number {
  const near = Math.max(8, Math.floor((channels + 4) / 8) * 8)
  return near < 0.9 * channels ? near + 8 : near
}

export type Activation = 'relu' | 'relu6' | 'hardSwish' | 'swish'

interface InvertedResidual {
  readonly kernel: number
  readonly expanded: number
  readonly out: number
  readonly stride: number
  readonly act: Activation
  readonly excite?: ExciteOptions
}

export function convNormAct(
  net: NetworkBuilder,
  x: Feature,
  at: string,
  out: number,
  options: Parameters<NetworkBuilder['conv']>[3] & { readonly act?: Activation },
): Feature {
  const y = net.batchNorm(net.conv(x, `${at}.conv`, out, options), `${at}.bn`)
  return options.act ? net[options.act](y, `${at}.act`) : y
}

export function invertedResidual(net: NetworkBuilder, x: Feature, at: string, block: InvertedResidual): Feature {
  const { kernel, expanded, out, stride, act, excite } = block
  const wide = expanded === x.channels ? x : convNormAct(net, x, `${at}.expand`, expanded, { kernel: 1, act })
  const spatial = convNormAct(net, wide, `${at}.depth`, expanded, { kernel, stride, depthwise: true, act })
  const gated = excite ? net.excite(spatial, `${at}.se`, excite) : spatial
  const narrow = convNormAct(net, gated, `${at}.project`, out, { kernel: 1 })
  return stride === 1 && out === x.channels ? net.add(narrow, x, `${at}.add`) : narrow
}
