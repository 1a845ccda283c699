/** Marks of mnc on what it did to a graph: metadata of nodes, values and the model. */
import type { Node, Value } from './graph.ts'

export const FROZEN_KEY = 'mnc.frozen'

/** Whether a node or value carries the mark. */
export const isFrozen = (x: Node | Value): boolean => x.metadata.get(FROZEN_KEY) === 'true'
