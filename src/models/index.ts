/** The families that `mnc build` knows, in the order of its help; behind them the user's own. */
import { Registry } from '../base/registry.ts'
import type { NetworkDef } from './define-network.ts'
import { densenetBc } from './densenet-bc.ts'
import { efficientnetB0 } from './efficientnet-b0.ts'
import { lenet } from './lenet.ts'
import { mobilenetV2 } from './mobilenet-v2.ts'
import { mobilenetV3Small } from './mobilenet-v3-small.ts'
import { resnet } from './resnet.ts'
import { shufflenetV2 } from './shufflenet-v2.ts'

const builtIn: readonly NetworkDef[] = [
  ...[densenetBc, resnet, lenet],
  ...[mobilenetV2, mobilenetV3Small, shufflenetV2, efficientnetB0],
]

export const networkRegistry = new Registry('network family', builtIn, (n) => [n.family])
/** Every family of networks that there is, the configuration's own too. */
export const networks = networkRegistry.all
