/** Types of one sample: a batch at which the model works that cannot be found is reported. */
import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { typedSamples } from '../../src/analysis/one-sample.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { probeLimits, setProbeLimits } from '../../src/runtime/probe-options.ts'

const limits = probeLimits()
setProbeLimits({ ...limits, seconds: 1 })
after(() => setProbeLimits(limits))

/** All shapes are known without running it, and running it takes forever unless `ends`. */
const loop = (first: string, reshape: string, ends: boolean) =>
  parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %x : float32[${first},4]
  init %go = bool[] [${ends ? 0 : 1}]
  init %one = int64[1] [1]
  init %axes = int64[2] [0, 1]
  init %to = int64[2] [${reshape}]
  init %w = float32[2,3] [1, 2, 3, 4, 5, 6]
  %s = ReduceSum(%x, %axes) {keepdims=0}
  %m = If(%go) {then_branch=graph "then"
      %l = Loop(_, %go, %s) {body=graph "body"
          input %i : int64[]
          input %on : bool[]
          input %a : float32[]
          %b : float32[] = Identity(%a)
          %still : bool[] = Identity(%on)
          output %still
          output %b
        end}
      %t : float32[1] = Reshape(%l, %one)
      output %t
    end, else_branch=graph "else"
      %e : float32[1] = Reshape(%s, %one)
      output %e
    end}
  %z = Mul(%x, %m)
  %r = Reshape(%z, %to)
  %y = MatMul(%r, %w)
  output %y
end
`)

for (const [name, first, reshape, rows] of [
  ['a batch that the graph bakes in', 'N', '2, 2', 2],
  ['a batch that the file fixes', '4', '8, 2', 8],
] as const)
  test(`${name}: a trial that does not end is reported, and the shapes stay`, async () => {
    for (const ends of [false, true]) {
      const said: string[] = []
      const { model } = await typedSamples(loop(first, reshape, ends), (message) => said.push(message))
      assert.deepEqual(model.graph.outputs[0]!.type?.dims, [rows, 3])
      const about = said.filter((line) => /the batch size at which the model works is unknown: .*1 s/.test(line))
      assert.equal(about.length, ends ? 0 : 1, said.join('\n'))
    }
  })
