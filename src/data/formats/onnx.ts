/** The test data of ONNX models: readers/onnx-tests.ts. */
import { defineFormat } from './define-format.ts'

export const onnx = defineFormat({
  name: 'onnx',
  place: 'DIR',
  summary: 'the test data of an ONNX model: folders test_data_set_0, ... with input_0.pb, output_0.pb, ...',
  async open(place, split, { map }) {
    const { openOnnxTests } = await import('../readers/onnx-tests.ts')
    return openOnnxTests(place, split, map)
  },
})
