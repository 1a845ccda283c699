/** Takes a point out of the work folder: its file, the recipe that makes it again, and the page about the run. */
import { readText, writeFileAtomic } from '../base/files.ts'
import { readModel, writeModel } from '../codec/codec.ts'
import type { CompressResult } from './events.ts'
import { compressPage } from './page.ts'
import type { Point } from './point.ts'
import { Work } from './work.ts'

/** Files that `takePoint` wrote. */
export interface Taken {
  readonly output: string
  readonly recipe: string
  readonly report: string
}

/** `small.onnx` to `small.recipe.json`. */
const beside = (out: string, end: string): string => `${out.replace(/\.onnx$/, '')}.${end}`

/** Writes OUT.onnx, OUT.recipe.json and OUT.report.html. */
export async function takePoint(result: CompressResult, point: Point, out: string): Promise<Taken> {
  const work = new Work(result.workdir)
  const taken: Taken = { output: out, recipe: beside(out, 'recipe.json'), report: beside(out, 'report.html') }
  await writeModel(await readModel(work.pointAt(point.name, 'file')), out)
  const recipe: unknown = JSON.parse(await readText(work.pointAt(point.name, 'recipe')))
  const named = typeof recipe === 'object' ? { ...recipe, name: nameFor(out) } : recipe
  await writeFileAtomic(taken.recipe, `${JSON.stringify(named, null, 2)}\n`)
  await writeFileAtomic(taken.report, await compressPage(result, point, nameFor(out)))
  return taken
}

/** A name that a recipe may have, after the file's. */
export const nameFor = (out: string): string => {
  const base = out.replace(/^.*[\\/]/, '').replace(/\.\w+$/, '')
  return base.replace(/^\.+/, '') || 'compressed'
}
