/** Defaults of a model-local function's attributes (attribute_proto), which the IR otherwise carries as they were read. */
import { modelError } from '../base/errors.ts'
import type { Attribute } from '../graph/attribute.ts'
import type { FunctionDef } from '../graph/model.ts'
import { decodeAttribute } from './codec-attribute.ts'
import { functionExtra } from './codec-extra.ts'
import { decodeTensor } from './codec-tensor.ts'
import { DataFiles } from './external-data.ts'

/** By attribute name. A model error for a default that is a graph. */
export function functionDefaults(f: FunctionDef): ReadonlyMap<string, Attribute> {
  const list = functionExtra(f)?.proto.attribute_proto ?? []
  return new Map(
    list.map((p) => {
      const read = {
        tensor: (t: Parameters<typeof decodeTensor>[0]) =>
          decodeTensor(t, `${f.name}.${p.name}`, new DataFiles(undefined)),
        graph: () => {
          throw modelError(
            'function-default',
            `the default of attribute '${p.name}' of function '${f.name}' is a graph`,
          )
        },
      }
      return [p.name ?? '', decodeAttribute(p, read)]
    }),
  )
}
