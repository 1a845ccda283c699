/** Real model files for tests; empty lists if they are not there. */
import { existsSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))
const nodeTestFolder = join(root, '.data/node-tests')
const zooFolder = join(root, '../shared/zoo')

export const nodeTests = (): string[] =>
  existsSync(nodeTestFolder) ? readdirSync(nodeTestFolder).map((f) => join(nodeTestFolder, f, 'model.onnx')) : []

const zooFiles = (): string[] =>
  existsSync(zooFolder) ? readdirSync(zooFolder, { recursive: true }).map((f) => join(zooFolder, String(f))) : []

/** The models that are one file. */
export const zoo = (): string[] => zooFiles().filter((f) => f.endsWith('.onnx') && dirname(f) === zooFolder)

/** The folder of a model with external data. */
export const externalZoo = (): string | undefined => {
  const model = zooFiles().find((f) => f.endsWith('.onnx') && dirname(f) !== zooFolder)
  return model && dirname(model)
}
