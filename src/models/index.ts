/** The families that `mnc build` knows, in the order of its help. */
import type { NetworkDef } from './define-network.ts'
import { densenetBc } from './densenet-bc.ts'
import { lenet } from './lenet.ts'
import { resnet } from './resnet.ts'

export const networks = [densenetBc, resnet, lenet] as const satisfies readonly NetworkDef[]
