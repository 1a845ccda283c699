/** How often which class is answered for which; the value is the share on the diagonal. */
import { confusionMetric } from './scores.ts'

/** A wider table is no longer read; its largest entries off the diagonal are. */
const WIDEST = 12
const MOST = 20

export const confusion = confusionMetric(
  { name: 'confusion', summary: 'which class is answered for which' },
  (matrix) => {
    const { names } = matrix
    const counts = names.map((_, label) => names.map((_, answer) => matrix.at(label, answer)))
    const whole = [['is / answered', ...names], ...counts.map((row, c) => [names[c]!, ...row.map(String)])]
    const mistakes = counts
      .flatMap((row, label) => row.map((n, answer) => ({ label, answer, n })))
      .filter(({ label, answer, n }) => label !== answer && n > 0)
      .sort((a, b) => b.n - a.n)
      .slice(0, MOST)
      .map(({ label, answer, n }) => [names[label]!, names[answer]!, String(n)])
    return {
      value: matrix.right / Math.max(1, matrix.total),
      details: { names, counts },
      table: names.length <= WIDEST ? whole : [['is', 'answered', 'samples'], ...mistakes],
    }
  },
)
