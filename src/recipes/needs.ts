/** Which stages of a recipe wait for which: those whose files they read. */
import type { Stage } from './recipe.ts'

export const neededBy = ({ source, teacher, checks }: Stage): readonly string[] =>
  [source, teacher, ...checks.map((c) => c.against)].flatMap((g) => (g?.kind === 'stage' ? [g.name] : []))
