/** The least share (of zeros, of channels) that is enough, where more always is, by halving. */

const HALVINGS = 8

/** To a few thousandths; null where `most` is not enough. */
export async function leastShare(most: number, isEnough: (share: number) => Promise<boolean>): Promise<number | null> {
  if (!(await isEnough(most))) return null
  let [low, high] = [0, most]
  for (let i = 0; i < HALVINGS; i++) {
    const middle = Number(((low + high) / 2).toFixed(3))
    if (await isEnough(middle)) high = middle
    else low = middle
  }
  return high
}
