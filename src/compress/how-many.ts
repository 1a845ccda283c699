/** How many samples a run looks at: fewer of large networks, which would take their time for it. Work is in multiply-accumulates. */

/** Held out to choose by: with 0.1 % of disagreement 5,000 tell 0.1 points. The same for every goal, so that a run with another one finds its points again. */
export const heldFor = (macs: number | null): number => fewer(macs, { most: 5000, work: 2e12, few: 200 })

/** Calibrated on, which takes minutes on two cores. */
export const limitFor = (macs: number | null): number => fewer(macs, { most: 512, work: 48e9, few: 128 })

function fewer(macs: number | null, o: { readonly most: number; readonly work: number; readonly few: number }): number {
  return macs === null ? o.most : Math.min(o.most, Math.max(o.few, Math.floor(o.work / Math.max(1, macs))))
}
