/** Precision, recall and F1 of each class (scores.ts); the value is the mean recall, balanced accuracy. */
import { confusionMetric, meanOverClasses } from './scores.ts'

const percent = (x: number): string => `${(100 * x).toFixed(2)} %`

export const perClass = confusionMetric(
  { name: 'per-class', summary: 'precision, recall and F1 of each class; the value is their mean recall' },
  (matrix) => {
    const classes = matrix.names.map((name, c) => ({ name, ...matrix.figures(c) }))
    const rows = classes.map((c) => [c.name, String(c.support), ...[c.precision, c.recall, c.f1].map(percent)])
    return {
      value: meanOverClasses(matrix, (c) => matrix.figures(c).recall),
      details: { classes },
      table: [['class', 'samples', 'precision', 'recall', 'F1'], ...rows],
    }
  },
)
