/**
 * F1 = 2 TP / (2 TP + FP + FN) of each class. The value is the mean over the classes (macro); of two classes it is that of
 * class 1. Over all answers (micro) it is the accuracy.
 */
import { confusionMetric, meanOverClasses } from './scores.ts'

export const f1 = confusionMetric(
  { name: 'f1', summary: 'F1, the mean over the classes; of two classes that of class 1' },
  (matrix) => {
    const classes = matrix.names.map((_, c) => matrix.figures(c))
    const macro = meanOverClasses(matrix, (c) => classes[c]!.f1)
    const weighted = classes.reduce((sum, c) => sum + c.f1 * c.support, 0) / Math.max(1, matrix.total)
    const value = matrix.classes === 2 ? classes[1]!.f1 : macro
    return { value, details: { macro, weighted, micro: matrix.right / Math.max(1, matrix.total) } }
  },
)
