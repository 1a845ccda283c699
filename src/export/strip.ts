/** A deployed file needs no marks: weights are taken out before they are rewritten, and what only training needed is dropped. */
import type { Graph } from '../graph/graph.ts'
import type { Model } from '../graph/model.ts'
import { findOp } from '../ops/index.ts'
import { removeDead } from '../passes/eliminate-dead.ts'
import type { Weight } from './weights/weights.ts'

/** Puts a placeholder input where each weight was, so that everything after it falls away. */
export function detach(model: Model, weights: readonly Weight[]): Weight[] {
  const { graph } = model
  const kept: Weight[] = []
  for (const w of weights) {
    if (!w.value.isUsed) continue
    const placeholder = graph.addInput(graph.freshName('_'), null)
    graph.replaceUses(w.value, placeholder)
    w.value = placeholder
    kept.push(w)
  }
  removeDead(graph)
  return kept
}

/** What only training needed, and labels: types of inner values, node names and metadata, doc strings. */
export function strip(model: Model): void {
  const { graph } = model
  removeDead(graph)
  for (const v of graph.values()) {
    if (v.isInput || v.isOutput) continue
    v.metadata.clear()
    v.extra = undefined
    if (!v.constant) v.setType(null)
  }
  for (const n of graph.nodes()) {
    n.rename('')
    n.metadata.clear()
    n.extra = undefined
  }
}

/** Attributes that say what a reader takes for granted. */
export function dropDefaults(graph: Graph): void {
  for (const n of graph.allNodes())
    for (const [name, value] of Object.entries(findOp(n)?.defaults ?? {})) {
      const a = n.attributes.get(name)
      const given = a?.kind === 'ints' ? a.value : a?.kind === 'int' || a?.kind === 'float' ? [a.value] : []
      if (given.length > 0 && given.every((v) => Number(v) === value)) n.setAttribute(name, null)
    }
}

/** What was called otherwise, by the name that it has now. */
export type Names = Readonly<Record<string, string>>

const DIGITS = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'

function digits(n: number): string {
  const rest = Math.floor(n / DIGITS.length)
  return (rest === 0 ? '' : digits(rest)) + DIGITS[n % DIGITS.length]!
}

/** Values inside the graph get the shortest names that are free, here and in bodies of If, Loop and Scan; those read most often get the first. */
export function shorten(graph: Graph): Names {
  const names: Record<string, string> = {}
  const bodies = [...graph.allNodes()].flatMap((n) => n.subgraphs)
  const inner = new Set(bodies.flatMap((body) => Array.from(body.values(), (v) => v.name)))
  const values = [...graph.values()].filter((v) => !v.isInput && !v.isOutput)
  let next = 0
  for (const v of values.sort((a, b) => b.uses.size - a.uses.size)) {
    let name: string
    do name = digits(next++)
    while (graph.find(name) || inner.has(name))
    if (name.length >= v.name.length) continue
    names[name] = v.name
    graph.rename(v, name)
  }
  return names
}
