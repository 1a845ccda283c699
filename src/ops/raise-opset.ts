/**
 * Upgrades a model to a later version of the default ONNX domain, as `upgrades` of the operator definitions
 * say, node by node: attributes that became inputs, operators that were renamed, defaults that moved. Bodies of If, Loop
 * and Scan and of model-local functions are upgraded too. Nodes of other domains stay as they are.
 *
 * Does not lower versions: a model that is newer already is left alone. A form that no definition can upgrade, and an
 * operator that the model's opset does not have, are model errors that name the node; the model is then to be dropped where
 * the form's operands are at fault, and unchanged otherwise. Where
 * onnxruntime has no kernel for a version that the model now asks for, a warning says so.
 */
import { MncError, modelError, usageError } from '../base/errors.ts'
import { cloneModel } from '../graph/clone.ts'
import type { Graph, Node } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { WORKING_OPSET } from './support/define-op.ts'
import { NEWEST_OPSET, reformsBetween, sinceVersions } from './support/schema-versions.ts'
import { upgradeNode, upgradesOf } from './upgrade.ts'

export { NEWEST_OPSET, WORKING_OPSET }

/** The oldest opset that onnxruntime runs in full; forms before it (early-forms.ts) are read and upgraded. */
export const OLDEST_TARGET = 7

type Decline = (where: string, reason: string) => void

/**
 * Upgrades `model` in place to opset `to` (7..25) of the default domain and says whether that changed anything. A newer
 * model is left as it is, and `decline` is told. Throws a model error where a node's form cannot be upgraded.
 */
export function upgradeModelTo(model: Model, to: number, decline?: Decline): boolean {
  if (!Number.isInteger(to) || to < OLDEST_TARGET || to > NEWEST_OPSET)
    throw usageError(`opset ${to} is not a supported target`, `choose from ${OLDEST_TARGET} to ${NEWEST_OPSET}`)
  const bodies = bodiesOf(model)
  for (const { graph, from } of bodies) for (const n of graph.allNodes()) if (n.domain === '') requireLift(n, from, to)
  const from = model.opsets.get('')
  if (from !== undefined && from > to) decline?.('model', `it is already at opset ${from}; versions are not lowered`)
  const lifts = from === undefined || from < to || bodies.some((b) => b.from < to)
  for (const body of bodies) if (body.from < to) lift(body, to)
  model.functions.forEach((f, i) => {
    const version = f.opsets.get('')
    if (version !== undefined && version < to)
      model.functions[i] = { ...f, opsets: new Map([...f.opsets, ['', Math.max(version, to)]]) }
  })
  if (from === undefined || from < to) model.setOpset(to)
  return lifts
}

/** Upgrades an older `model` in place to the opset that all rules are written for; a newer one is left as it is. */
export function toWorkingOpset(model: Model): void {
  if (model.opset < WORKING_OPSET) upgradeModelTo(model, WORKING_OPSET)
}

/**
 * Brings a model of opset 1 to 6 to 7, in place: onnxruntime has no kernels for many of its forms, and passes write the
 * newer ones. True where that changed it; a model that cannot be upgraded stays as it is, and `warn` is told why.
 */
export function leaveEarlyOpsets(model: Model, warn: (message: string) => void): boolean {
  const own = model.opsets.get('')
  if (own === undefined || own >= OLDEST_TARGET) return false
  try {
    upgradeModelTo(cloneModel(model), OLDEST_TARGET)
  } catch (error) {
    if (!(error instanceof MncError)) throw error
    warn(`WARNING: the model stays at opset ${own}: ${error.describe()}`)
    return false
  }
  return upgradeModelTo(model, OLDEST_TARGET)
}

interface Body {
  readonly graph: Graph
  readonly from: number
  readonly isFunction: boolean
}

/** The main graph and the functions' bodies, each with the version its nodes are written in. */
function bodiesOf(model: Model): Body[] {
  const main = model.opsets.get('')
  const all = [
    { graph: model.graph, version: main, isFunction: false },
    ...model.functions.map((f) => ({ graph: f.graph, version: f.opsets.get('') ?? main, isFunction: true })),
  ]
  return all.flatMap(({ graph, version, isFunction }) => {
    if (version !== undefined) return [{ graph, from: version, isFunction }]
    for (const n of graph.allNodes())
      if (n.domain === '')
        throw modelError('no-opset', `the model uses ${n.op} but imports no version of the ai.onnx domain`, {
          node: n.id,
        })
    return []
  })
}

/** Throws where `node` cannot be brought from opset `from` to `to`. */
function requireLift(node: Node, from: number, to: number): void {
  if (from >= to) return
  const since = sinceVersions(node.op)
  const fail = (why: string, next?: string) =>
    modelError('unknown-form', `${node.label}: ${why}`, { node: node.id, next })
  if (!since || since[0]! > from) throw fail(`opset ${from} has no operator with that name`)
  const upgrades = upgradesOf(node)
  const reforms = reformsBetween(node.op, from, to)
  for (const version of reforms)
    if (!upgrades.some((u) => u.to === version))
      throw fail(
        `its definition changed in opset ${version}, and mnc cannot rewrite it`,
        `choose --to ${version - 1} or less`,
      )
  if (reforms.length === 0) return
  for (const [name, a] of node.attributes)
    if (a.kind === 'reference')
      throw fail(
        `its attribute '${name}' comes from the function's caller, and its definition changed in opset ${reforms[0]}`,
      )
}

function lift({ graph, from, isFunction }: Body, to: number): void {
  // ranks, which the oldest forms need, are read from forms of opset 7
  if (from < OLDEST_TARGET) liftNodes(graph, from, OLDEST_TARGET)
  liftNodes(graph, Math.max(from, OLDEST_TARGET), to)
  if (isFunction) initializersToNodes(graph)
}

function liftNodes(graph: Graph, from: number, to: number): void {
  for (const n of [...graph.allNodes()]) if (n.domain === '') upgradeNode(n, from, to)
}

/** A function's body has no initializers: constants that upgrades made become Constant nodes. */
function initializersToNodes(graph: Graph): void {
  for (const v of [...graph.initializers()]) {
    const { name } = v
    const value = graph.prepend().op('Constant', [], { value: v.constant! })
    graph.replaceUses(v, value)
    graph.removeInitializer(v)
    graph.rename(value, name)
  }
}
