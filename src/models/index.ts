/** The families that `mnc build` knows, in the order of its help. */
import type { NetworkDef } from './define-network.ts'
import { densenetBc } from './densenet-bc.ts'
import { efficientnetB0 } from './efficientnet-b0.ts'
import { lenet } from './lenet.ts'
import { mobilenetV2 } from './mobilenet-v2.ts'
import { mobilenetV3Small } from './mobilenet-v3-small.ts'
import { resnet } from './resnet.ts'
import { shufflenetV2 } from './shufflenet-v2.ts'

export const networks = [
  ...[densenetBc, resnet, lenet],
  ...[mobilenetV2, mobilenetV3Small, shufflenetV2, efficientnetB0],
] as const satisfies readonly NetworkDef[]
