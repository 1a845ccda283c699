/** Whether the mean and deviation of pixels are of the range that their scale brings them to. */

export interface PixelNumbers {
  readonly scale: number
  readonly mean: readonly number[]
  readonly std: readonly number[]
}

/** A sentence for those that are not; null where they may be. */
export function scaleWarning({ scale, mean, std }: PixelNumbers): string | null {
  const numbers = `mean ${mean.join(' ')}, std ${std.join(' ')}, scale ${scale}`
  if (scale > 2 && [...mean, ...std].some((x) => Math.abs(x) > 1.5))
    return `the preprocessing looks wrong: ${numbers}; pixels / ${scale} are 0 to ${round(255 / scale)}, and the mean or std is that of 0 to 255 (--scale 1, or divide them by ${scale})`
  if (
    scale <= 1 &&
    mean.some((x) => x > 0) &&
    [...mean, ...std].every((x) => Math.abs(x) <= 1) &&
    std.some((x) => x < 1)
  )
    return `the preprocessing looks wrong: ${numbers}; pixels / ${scale} are 0 to ${round(255 / scale)}, and the mean and std are those of 0 to 1 (--scale 255)`
  return null
}

const round = (x: number): number => Number(x.toPrecision(3))
