/**
 * What a layer's weights may be stored as: a width, 0 for float, and a share of zeros.
 *
 * Bytes of n weights at b bits are those without a code: b bits each up to 4; a mask bit and b bits of each that is not zero
 * up to 7; a byte at 8, four without quantising. Words of a prefix code take less, by a share that is known only when
 * the layer's integers are.
 */
import type { PtqOptionsInput } from '../ptq/ptq-options.ts'

export interface LayerForm {
  readonly bits: number
  readonly sparsity: number
}

/** By layer name. */
export type Forms = Readonly<Record<string, LayerForm>>

const dense = (...widths: readonly number[]): readonly LayerForm[] => widths.map((bits) => ({ bits, sparsity: 0 }))

const sparse = (...shares: readonly number[]): readonly LayerForm[] => shares.map((sparsity) => ({ bits: 4, sparsity }))

/** Where files are to be small, and 4 bits everywhere lose too much. The first are measured first: there may be no time for all. */
export const SMALL_FORMS = dense(4, 8, 3, 2, 6)
/**
 * Where a number of bytes is asked for, or 4 bits everywhere are good enough. Zeros go with 4 bits alone, so that
 * there are not too many to be measured.
 */
export const SPARSE_FORMS: readonly LayerForm[] = [
  ...dense(4, 8),
  ...sparse(0.75, 0.6, 0.88),
  ...dense(3),
  ...sparse(0.4),
  ...dense(6),
]
/** Where 8 bits everywhere are too few. */
export const MILD_FORMS = dense(8, 0)

/** Names a form in files. */
export const formKey = ({ bits, sparsity }: LayerForm): string => (sparsity === 0 ? `${bits}` : `${bits}-${sparsity}`)

export function formBytes(weights: number, { bits, sparsity }: LayerForm): number {
  if (bits === 0) return 4 * weights
  const masked = Math.ceil((weights * (1 + bits * (1 - sparsity))) / 8)
  const whole = Math.ceil(weights * (bits <= 4 ? bits / 8 : 1))
  return Math.min(whole, masked)
}

/** As options of `ptq`. */
export function ptqFormOptions(forms: Forms): PtqOptionsInput {
  const pick = (of: (form: LayerForm) => number, isTaken: (form: LayerForm) => boolean): Record<string, number> =>
    Object.fromEntries(Object.entries(forms).flatMap(([name, f]) => (isTaken(f) ? [[name, of(f)]] : [])))
  const floats = pick(
    () => 0,
    (f) => f.bits === 0,
  )
  const sparse = pick(
    (f) => f.sparsity,
    (f) => f.sparsity > 0,
  )
  return {
    layerWeightBits: pick(
      (f) => f.bits,
      () => true,
    ),
    ...(Object.keys(floats).length > 0 && { layerActivationBits: floats }),
    ...(Object.keys(sparse).length > 0 && { layerSparsity: sparse }),
  }
}

/** For people: `2 at 4 bits, 8 at 4 bits with 30 to 80 % zeros, 3 at 8 bits`. */
export function describeForms(forms: Forms): string {
  const groups = new Map<string, LayerForm[]>()
  for (const form of Object.values(forms)) {
    const key = `${form.bits} ${form.sparsity > 0}`
    groups.set(key, [...(groups.get(key) ?? []), form])
  }
  return [...groups.values()]
    .sort(([a], [b]) => a!.bits - b!.bits || a!.sparsity - b!.sparsity)
    .map((own) => {
      const { bits } = own[0]!
      return `${own.length} at ${bits === 0 ? 'float' : `${bits} bits`}${zerosOf(own.map((f) => f.sparsity))}`
    })
    .join(', ')
}

function zerosOf(shares: readonly number[]): string {
  const [least, most] = [Math.min(...shares), Math.max(...shares)].map((s) => Math.round(100 * s))
  if (most === 0) return ''
  return ` with ${least === most ? '' : `${least} to `}${most} % zeros`
}
