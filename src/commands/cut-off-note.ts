/** What a user is told about sums that this processor cuts off (export/saturating-sums.ts). */
import type { Model } from '../graph/model.ts'

const countOf = (n: number): string => (n === 1 ? '1 layer' : `${n} layers`)

/** Of a file that is run here; null where nothing is cut off. */
export async function cutOffNote(model: Model): Promise<string | null> {
  const { saturatingLayers } = await import('../export/saturating-sums.ts')
  const layers = await saturatingLayers(model)
  if (layers.length === 0 || !(await isHere())) return null
  return `note: onnxruntime cuts off sums of 8-bit weights on this processor, in ${countOf(layers.length)}: the figures are those of processors without VNNI`
}

/** Of a file that is written, with the layers that may be wrong somewhere. */
export async function exportedNote(layers: readonly string[]): Promise<string> {
  const here = (await isHere()) ? ', as this one' : ''
  return `${countOf(layers.length)} may lose accuracy in onnxruntime on x86 processors without VNNI${here}, which cuts off sums of 8-bit weights at 16 bits there; --format int8 without --vnni is right everywhere, and 7-bit weights (mnc ptq --weight-bits 7) are in every format`
}

async function isHere(): Promise<boolean> {
  const { cutsOffSums } = await import('../runtime/ort/cut-off-sums.ts')
  return cutsOffSums()
}
