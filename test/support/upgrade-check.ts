/** Upgrades older forms of node tests and runs them: what the test does for a few cases and the bench for all. */
import type { Model } from '../../src/graph/model.ts'
import { verifyModel } from '../../src/graph/verify.ts'
import { upgradeModelTo } from '../../src/ops/raise-opset.ts'
import { mismatch, type NodeCase } from './node-tests.ts'
import { type OlderForm, olderForms } from './older-forms.ts'

export interface Outcome {
  readonly where: string
  readonly rewritten: boolean
  /** null: the upgraded model gives the expected outputs. */
  readonly miss: string | null
}

/** One outcome for every older form of the case that onnxruntime runs with the expected outputs. */
export async function checkUpgrades(c: NodeCase, to: number): Promise<Outcome[]> {
  const outcomes: Outcome[] = []
  for (const form of olderForms(c, to)) {
    if (!(await applies(form, c))) continue
    outcomes.push({
      where: `${c.name} ${form.opset} -> ${to}`,
      rewritten: form.rewritten,
      miss: await missOf(form.make(), c, to),
    })
  }
  return outcomes
}

async function applies(form: OlderForm, c: NodeCase): Promise<boolean> {
  try {
    return (await mismatch(form.make(), c)) === null
  } catch {
    return false
  }
}

async function missOf(model: Model, c: NodeCase, to: number): Promise<string | null> {
  try {
    upgradeModelTo(model, to)
    verifyModel(model)
    return await mismatch(model, c)
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}
