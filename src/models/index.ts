/** The families that `mnc build` knows, in the order of its help; behind them the user's own. */
import { Registry } from '../base/registry.ts'
import type { NetworkDef } from './define-network.ts'
import { densenetBc } from './densenet-bc.ts'
import { lenet } from './lenet.ts'
import { resnet } from './resnet.ts'

const builtIn: readonly NetworkDef[] = [densenetBc, resnet, lenet]

export const networkRegistry = new Registry('network family', builtIn, (n) => [n.family])
export const networks = networkRegistry.all
