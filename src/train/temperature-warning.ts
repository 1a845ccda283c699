/** What a teacher's entropy says about the temperature. */

/** `share`: StepEvent.teacherEntropy. null where the teacher has something to teach. */
export function temperatureWarning(share: number): string | null {
  const [what, next] =
    share > 0.9
      ? ['all classes are nearly alike', 'lower']
      : share < 0.03
        ? ['it is nearly always certain', 'raise']
        : []
  if (!what) return null
  return `WARNING: the teacher's entropy is ${(share * 100).toFixed(0)} % of its maximum: ${what} for it; ${next} --temperature`
}
