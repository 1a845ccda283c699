/**
 * What an augmentation policy says. Of the tuples <operation, probability, level>, `draw` are drawn for each image, each
 * independently and uniformly, and applied in that order; then zero padding and a random crop, a horizontal flip, and a
 * cutout. Loader threads read this file, so it imports nothing; reading and checking is in policy-file.ts.
 */
export const augmentOps = [
  'invert',
  'contrast',
  'rotate',
  'translate-x',
  'sharpness',
  'shear-y',
  'translate-y',
  'auto-contrast',
  'equalize',
  'solarize',
  'color',
  'posterize',
  'brightness',
  'cutout',
  'shear-x',
] as const
export type AugmentOp = (typeof augmentOps)[number]

export interface PolicyTuple {
  readonly op: AugmentOp
  readonly probability: number
  /** 0..10; what it means for each operation: `magnitudeOf`. */
  readonly level?: number
  /** In the operation's own unit, in place of a level. */
  readonly magnitude?: number
}

export interface AugmentPolicy {
  readonly name?: string
  readonly draw?: number
  readonly tuples?: readonly PolicyTuple[]
  readonly crop?: { readonly padding: number }
  readonly flip?: number
  readonly cutout?: { readonly size: number; readonly probability?: number }
}

/** The strength of a tuple in its operation's unit: degrees, pixels, shear, threshold, bits kept, enhancer factor. */
export function magnitudeOf({ op, level = 0, magnitude }: PolicyTuple): number {
  if (magnitude !== undefined) return magnitude
  switch (op) {
    case 'shear-x':
    case 'shear-y':
      return 0.03 * level
    case 'translate-x':
    case 'translate-y':
      return level
    case 'rotate':
      return Math.trunc(3 * level)
    case 'solarize':
      return 256 - Math.trunc(25.6 * level)
    case 'posterize':
      return 4 - Math.trunc(0.4 * level)
    case 'cutout':
      return 2 * level
    case 'contrast':
    case 'sharpness':
    case 'color':
    case 'brightness':
      return 0.18 * level + 0.1
    default:
      return 0
  }
}
