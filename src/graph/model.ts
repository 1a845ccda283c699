/** A model: the main graph with what surrounds it in a file. What passes take and return. */
import { type Extra, Graph } from './graph.ts'

/** The opset that graphs built here are written in: the first with 4-bit Q/DQ types (ONNX 1.16). */
export const BUILD_OPSET = 21

export interface FunctionDef {
  readonly domain: string
  readonly name: string
  readonly overload: string
  /** Attribute names that a call may give. */
  readonly attributes: readonly string[]
  readonly opsets: ReadonlyMap<string, number>
  /** Body; inputs and outputs have names and no types. */
  readonly graph: Graph
  readonly extra: Extra
}

/** A graph with its opsets, functions and metadata: what an `.onnx` file holds. */
export class Model {
  readonly graph: Graph
  irVersion: number
  /** Domain ('' is ai.onnx) to version. */
  readonly opsets = new Map<string, number>()
  readonly functions: FunctionDef[] = []
  readonly metadata = new Map<string, string>()
  producerName = ''
  producerVersion = ''
  domain = ''
  modelVersion = 0n
  docString = ''
  extra: Extra = undefined
  /** Folder that external data paths are relative to; undefined for a model that was not read from a file. */
  folder: string | undefined

  constructor(graph = new Graph(), opset = BUILD_OPSET) {
    this.graph = graph
    this.opsets.set('', opset)
    this.irVersion = irVersionFor(opset)
  }

  /** Version of the default domain. */
  get opset(): number {
    return this.opsets.get('') ?? 0
  }

  /** Sets the default domain's version and upgrades the IR version to what it needs. */
  setOpset(version: number): void {
    this.opsets.set('', version)
    this.irVersion = Math.max(this.irVersion, irVersionFor(version))
  }
}

/** The IR version released with an opset (ONNX docs/Versioning.md). */
export function irVersionFor(opset: number): number {
  const released: readonly (readonly [opset: number, ir: number])[] = [
    [25, 13],
    [24, 12],
    [23, 11],
    [21, 10],
    [19, 9],
    [15, 8],
    [12, 7],
    [11, 6],
    [10, 5],
    [9, 4],
  ]
  return released.find(([o]) => opset >= o)?.[1] ?? 3
}
