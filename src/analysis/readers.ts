/**
 * Which versions of onnxruntime load a file, judged by its contents. Facts measured with onnxruntime 1.16.3, 1.18.1,
 * 1.20.1, 1.22.1, 1.23.2 and 1.24.1 (1.16 is the oldest that was tried):
 *
 *   IR 10                          1.18    "Unsupported model IR version" before
 *   4-bit integers                 1.20    the type is unknown
 *   Cast from 4-bit integers       1.23    no kernel
 *   Min, Max of 8-bit integers     1.24    no kernel
 *
 * Opsets up to 19 are those of 1.16; 20 and 21 were tried with 1.18, later ones with 1.30 alone. Says nothing about
 * operators of other domains.
 */
import type { Graph, Node, Value } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { elementTypes } from '../graph/types.ts'
import { isCast, isExtremum, isQuantize } from '../ops/facts.ts'

export interface Readers {
  /** The oldest version of onnxruntime that loads the file, `1.16` where nothing in it is newer. */
  readonly onnxruntime: string
  /** What in the file requires that version; null for the oldest. */
  readonly because: string | null
  /** Types that readers other than onnxruntime and OpenVINO do not know (OpenCV 5.0, tract 0.23). */
  readonly unusualTypes: readonly string[]
}

interface Demand {
  /** The minor version: 18 for 1.18. */
  readonly minor: number
  readonly because: string
}

const OLDEST = 16

/** The oldest minor version that an opset was tried with. */
const opsets: readonly (readonly [opset: number, minor: number])[] = [
  [22, 30],
  [20, 18],
]

export function readersOf(model: Model): Readers {
  const demands = [...demandsOf(model)]
  const most = demands.reduce<Demand | null>((a, d) => (a && a.minor >= d.minor ? a : d), null)
  const types = [...new Set([...model.graph.stored()].map((v) => v.stored!.type))]
  return {
    onnxruntime: `1.${most?.minor ?? OLDEST}`,
    because: most?.because ?? null,
    unusualTypes: types.filter((t) => elementTypes[t].bits === 4 || elementTypes[t].bits === 2),
  }
}

function* demandsOf({ irVersion, opset, graph, functions }: Model): Generator<Demand> {
  if (irVersion >= 10) yield { minor: 18, because: `IR ${irVersion}` }
  const known = opsets.find(([o]) => opset >= o)
  if (known) yield { minor: known[1], because: `opset ${opset}` }
  const types = typesOf([graph, ...functions.map((f) => f.graph)])
  for (const { value, type } of types) {
    const { bits } = elementTypes[type]
    if (bits === 4) {
      yield { minor: 20, because: `${type} values` }
      if (readers(value).some(isCast)) yield { minor: 23, because: `a Cast from ${type}` }
    }
    if (bits === 8 && /^u?int8$/.test(type) && readers(value).some(isExtremum))
      yield { minor: 24, because: `Min or Max of ${type}` }
  }
}

const readers = (v: Value): readonly Node[] => [...v.uses]

type Typed = { readonly value: Value; readonly type: keyof typeof elementTypes }

/** Values whose element type is known without running anything: tensors, declared ones, and what a quantiser makes. */
function* typesOf(graphs: readonly Graph[]): Generator<Typed> {
  for (const graph of graphs)
    for (const value of graph.values()) {
      const zero = value.producer && isQuantize(value.producer) ? value.producer.inputs[2]?.stored?.type : undefined
      const type = value.stored?.type ?? zero ?? value.type?.elem
      if (type) yield { value, type }
    }
}
