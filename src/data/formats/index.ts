/** Every data format, in the order in which help lists them; behind them the user's own. */
import { Registry } from '../../base/registry.ts'
import { cifar10 } from './cifar10.ts'
import { cifar100 } from './cifar100.ts'
import type { DataFormat } from './define-format.ts'
import { embedded } from './embedded.ts'
import { folder } from './folder.ts'
import { mnist } from './mnist.ts'
import { npy } from './npy.ts'
import { npz } from './npz.ts'
import { onnx } from './onnx.ts'
import { parquet } from './parquet.ts'
import { tar } from './tar.ts'
import { wav } from './wav.ts'

const builtIn: readonly DataFormat[] = [cifar10, cifar100, mnist, folder, npz, npy, parquet, onnx, tar, wav, embedded]

export const formatRegistry = new Registry('data format', builtIn, (f) => [f.name])
export const dataFormats = formatRegistry.all
