/** A part of a data set for validation. */
import { usageError } from '../base/errors.ts'
import { Rng } from '../base/rng.ts'

export interface Labelled {
  readonly name: string
  readonly size: number
  readonly labels: Int32Array
}

/**
 * Of each class the same fraction, chosen by `seed`; both parts keep the order of the files. The fraction is rounded per class,
 * with at least one sample held out in all. A usage error where one part would be empty.
 */
export function heldOut({ name, size, labels }: Labelled, fraction: number, seed: number) {
  if (!(fraction > 0 && fraction < 1))
    throw usageError(`the validation part must be between 0 and 1, not ${fraction}`, 'e.g. --val-fraction 0.1')
  const byClass = new Map<number, number[]>()
  for (const label of [...new Set(labels)].sort((a, b) => a - b)) byClass.set(label, [])
  for (let i = 0; i < size; i++) byClass.get(labels[i]!)!.push(i)
  const held = new Uint8Array(size)
  let owed = 0 // carries what rounding left, so that the total is right where classes are tiny
  for (const [label, members] of byClass) {
    owed += members.length * fraction
    const count = Math.min(members.length, Math.round(owed))
    owed -= count
    for (const i of new Rng(seed, label).shuffle(members).slice(0, count)) held[i] = 1
  }
  const chosen = (flag: number) => Array.from(held.keys()).filter((i) => held[i] === flag)
  const [kept, out] = [chosen(0), chosen(1)]
  if (out.length === 0 || kept.length === 0)
    throw usageError(`${name} has ${size} samples: a fraction of ${fraction} leaves one side empty`)
  return { kept, out }
}
