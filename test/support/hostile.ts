/** Valid or nearly valid models, of a few hundred bytes, that would abort, hang or fill the process that trusts them. */
import { writeModel } from '../../src/codec/codec.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import type { Model } from '../../src/graph/model.ts'

const graph = (body: string, { opset = 21, functions = '' } = {}): Model =>
  parseModel(`onnx {ir_version=10}
opset ai.onnx=${opset}${functions ? ' loc=1' : ''}
graph "g"
${body}
end
${functions}`)

/** onnxruntime 1.30 writes past a buffer of its own where a Resize's scales are a feature map. */
export const aborting = (channels = 3): Model =>
  graph(`  input %x : float32[1,${channels},8,8]
  init %w = float32[2,${channels},1,1] [${Array(2 * channels)
    .fill(0.5)
    .join()}]
  %c = Conv(%x, %w) {kernel_shape=[1, 1]}
  %y = Resize(%c, _, %c) {mode="nearest"}
  output %y`)

/**
 * A Loop without a trip count whose condition stays true: runs forever, in front of a layer, whose shapes are known where
 * `scalar`.
 */
export const endlessLoop = ({ scalar = false } = {}): Model =>
  graph(`  input %x : float32[N,4]
  init %true = bool[] [1]
  init %start = float32[1] [1]
  init %one = int64[1] [1]
  init %w = float32[4,2] [1, 2, 3, 4, 5, 6, 7, 8]
  %l = Loop(_, %true, %start) {body=graph "body"
      input %i : int64[]
      input %go : bool[]
      input %a : float32[1]
      %b : float32[1] = Identity(%a)
      %on : bool[] = Identity(%go)
      output %on
      output %b
    end}
  %m = ${scalar ? 'Reshape(%l, %one)' : 'Identity(%l)'}
  %z = Mul(%x, %m)
  %y = MatMul(%z, %w)
  output %y`)

/** Images of `side`, where the brightest value is just 1 runs forever, else is a linear classifier of ten classes. */
export const endlessWhereBright = (side: number): Model =>
  graph(`  input %x : float32[N,1,${side},${side}]
  init %true = bool[] [1]
  init %start = float32[1] [1]
  init %bright = float32[] [1]
  init %most = int64[] [9223372036854775807]
  init %one = int64[1] [1]
  init %w = float32[${side * side},10] [${Array(side * side * 10)
    .fill(0.01)
    .join()}]
  %max : float32[] = ReduceMax(%x) {keepdims=0}
  %is : bool[] = Equal(%max, %bright)
  %as : int64[] = Cast(%is) {to=7}
  %count : int64[] = Mul(%as, %most)
  %l : float32[1] = Loop(%count, %true, %start) {body=graph "body"
      input %i : int64[]
      input %go : bool[]
      input %a : float32[1]
      %b : float32[1] = Identity(%a)
      %on : bool[] = Identity(%go)
      output %on
      output %b
    end}
  %m = Reshape(%l, %one)
  %f = Flatten(%x)
  %z = Mul(%f, %m)
  %y : float32[N,10] = MatMul(%z, %w)
  output %y`)

/** A layer of the same interface, and no more. */
export const plain = (): Model =>
  graph(`  input %x : float32[N,4]
  init %w = float32[4,2] [1, 2, 3, 4, 5, 6, 7, 8]
  %y = MatMul(%x, %w)
  output %y`)

/** An If in a Loop with the largest trip count. */
export const longLoop = (): Model =>
  graph(`  input %x : float32[N,4]
  init %count = int64[] [9223372036854775807]
  init %true = bool[] [1]
  init %start = float32[1] [1]
  %l = Loop(%count, %true, %start) {body=graph "body"
      input %i : int64[]
      input %go : bool[]
      input %a : float32[1]
      %b : float32[1] = If(%go) {then_branch=graph "then"
          %s : float32[1] = Sqrt(%a)
          output %s
        end, else_branch=graph "else"
          %t : float32[1] = Neg(%a)
          output %t
        end}
      %on : bool[] = Identity(%go)
      output %on
      output %b
    end}
  %y = Mul(%x, %l)
  output %y`)

const GIB16 = [65536, 65536] as const

/** Constants of 16 GiB, by the operator that makes them; summed up at the end. */
export const bombs: Readonly<Record<string, () => Model>> = Object.fromEntries(
  Object.entries({
    ConstantOfShape: `  init %s = int64[2] [${GIB16}]\n  %k = ConstantOfShape(%s)`,
    Expand: `  init %one = float32[1] [1]\n  init %s = int64[2] [${GIB16}]\n  %k = Expand(%one, %s)`,
    Tile: `  init %one = float32[1,1] [1]\n  init %s = int64[2] [${GIB16}]\n  %k = Tile(%one, %s)`,
    Range: `  init %a = float32[] [0]\n  init %b = float32[] [4294967296]\n  init %d = float32[] [1]\n  %k = Range(%a, %b, %d)`,
    // the size is computed: inference does not see it
    computed: `  init %s = float32[2] [256, 256]\n  %sq = Mul(%s, %s)\n  %si = Cast(%sq) {to=7}\n  %k = ConstantOfShape(%si)`,
    Pad: `  init %one = float32[1,1] [1]\n  init %p = int64[4] [0, 0, ${GIB16}]\n  %k = Pad(%one, %p)`,
  }).map(([name, made]) => [
    name,
    () =>
      graph(`  input %x : float32[N,4]
${made}
  %sum = ReduceSum(%k) {keepdims=0}
  %y = Mul(%x, %sum)
  output %y`),
  ]),
)

/** `levels` functions, each calling the one before `fan` times. */
export function doubling(levels: number, fan = 2): Model {
  const body = (i: number): string => {
    if (i === 0) return '  %Y = Relu(%X)'
    const calls = Array.from({ length: fan }, (_, k) => {
      const [from, to] = [k === 0 ? 'X' : `t${k}`, k === fan - 1 ? 'Y' : `t${k + 1}`]
      return `  %${to} = loc::F${i - 1}(%${from})`
    })
    return calls.join('\n')
  }
  const functions = Array.from(
    { length: levels },
    (_, i) => `function loc::F${i} () opset ${i === 0 ? 'ai.onnx=21' : 'loc=1'}
graph "F${i}"
  input %X
${body(i)}
  output %Y
end`,
  )
  const main = `  input %x : float32[N,4]\n  %y : float32[N,4] = loc::F${levels - 1}(%x)\n  output %y`
  return graph(main, { functions: functions.join('\n') })
}

/** A recurrent layer over `steps` steps (a symbol: open), of which only the last state is read. */
export function recurrent(
  op: 'LSTM' | 'GRU' | 'RNN',
  steps: number | string,
  { first = false, width = 3 } = {},
): Model {
  const gates = { LSTM: 4, GRU: 3, RNN: 1 }[op]
  const numbers = (n: number): string => Array.from({ length: n }, (_, i) => ((i % 7) - 3) / 10).join(', ')
  return graph(`  input %x : float32[${steps},2,4]
  init %w = float32[1,${gates * width},4] [${numbers(gates * width * 4)}]
  init %r = float32[1,${gates * width},${width}] [${numbers(gates * width * width)}]
  init %wm = float32[${width},2] [${numbers(width * 2)}]
  init %ax = int64[1] [0]
  ${first ? '%all' : '_'}, %h = ${op}(%x, %w, %r) {hidden_size=${width}}
  %s = Squeeze(%h, %ax)
  %y = MatMul(%s, %wm)
  output %y
${first ? '  output %all' : ''}`)
}

/** An input of more elements than a typed array holds. */
export const hugeInput = (): Model =>
  graph(`  input %x : float32[2147483648,2,3]
  init %first = int64[1] [0]
  init %rest = int64[1] [-1]
  init %w = float32[6,4] [${Array.from({ length: 24 }, (_, i) => i / 10).join(', ')}]
  %s = Shape(%x)
  %n = Gather(%s, %first)
  %flat = Concat(%n, %rest) {axis=0}
  %f = Reshape(%x, %flat)
  %y = MatMul(%f, %w)
  output %y`)

/**
 * A layer whose size comes from the data, behind a value of type `code` (TensorProto.DataType) of open shape; `exposed`:
 * that value is an output of the model too.
 */
export const ofType = (code: number, { opset = 21, exposed = false } = {}): Model =>
  graph(
    `  input %x : float32[N,3,4,4]
  init %two = float32[] [2]
  init %from = int64[1] [2]
  init %to = int64[1] [4]
  init %w = float32[2,3,1,1] [1, 2, 3, 4, 5, 6]
  init %lead = int64[2] [1, 3]
  %s = Shape(%x)
  %hw = Slice(%s, %from, %to)
  %f = Cast(%hw) {to=1}
  %g = Mul(%f, %two)
  %h = Floor(%g)
  %i = Cast(%h) {to=7}
  %size = Concat(%lead, %i) {axis=0}
  %u = Resize(%x, _, _, %size) {mode="nearest"}
  %n = Cast(%u) {to=${code}}
  %q = Cast(%n) {to=1}
  %y = Conv(%q, %w) {kernel_shape=[1, 1]}
  output %y
${exposed ? '  output %n' : ''}`,
    { opset },
  )

/** The same with a sequence as an output and inside. */
export const withSequence = (): Model =>
  graph(`  input %x : float32[N,4]
  init %w = float32[4,2] [1, 2, 3, 4, 5, 6, 7, 8]
  init %zero = int64[] [0]
  %seq = SequenceConstruct(%x, %x)
  %e = SequenceAt(%seq, %zero)
  %y = MatMul(%e, %w)
  output %y
  output %seq`)

export async function written(model: Model, path: string): Promise<string> {
  await writeModel(model, path)
  return path
}
