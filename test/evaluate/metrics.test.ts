/**
 * Every metric against values that others publish: the examples of scikit-learn's documentation and of jiwer, worked
 * examples by hand, and the definition of COCO's average precision.
 */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { writeModel } from '../../src/codec/codec.ts'
import { parseModel } from '../../src/codec/text-parse.ts'
import { runCommandLine } from '../../src/commands/program.ts'
import type { Measured, MeasuredOutput } from '../../src/evaluate/metrics/define-metric.ts'
import { metrics } from '../../src/evaluate/metrics/index.ts'
import { Sink } from '../cli/sink.ts'
import { compiledUrl } from '../support/compiled.ts'
import { npy } from '../support/data-files.ts'

const scratch = mkdtempSync(join(tmpdir(), 'mnc-metrics-'))
after(() => rmSync(scratch, { recursive: true }))

const OUTPUT: MeasuredOutput = {
  ...{ name: 'y', elem: 'float32', lastDim: null, isProbability: false, classes: 0, classNames: null },
}

function metric(name: string) {
  const found = metrics.find((m) => m.name === name)
  assert.ok(found, name)
  return found
}

/** Of answers as one-hot scores. */
function ofClasses(name: string, truth: readonly number[], answers: readonly number[]): Measured {
  const classes = Math.max(...truth, ...answers) + 1
  const measuring = metric(name).start({ ...OUTPUT, lastDim: classes, classes })
  for (const [i, label] of truth.entries()) {
    const got = Array.from({ length: classes }, (_, c) => (c === answers[i] ? 1 : 0))
    assert.equal(measuring.add({ got, want: [], label }), undefined)
  }
  return measuring.result()
}

function ofValues(
  name: string,
  pairs: readonly (readonly [number[], number[]])[],
  output: Partial<MeasuredOutput> = {},
) {
  const measuring = metric(name).start({ ...OUTPUT, ...output })
  for (const [got, want] of pairs) assert.equal(measuring.add({ got, want, label: -1 }), undefined)
  return measuring.result()
}

const near = (got: unknown, want: number, digits = 6): void => {
  assert.ok(typeof got === 'number' && Math.abs(got - want) < 10 ** -digits, `${got}, not ${want}`)
}

test('f1: the example of sklearn.metrics.f1_score', () => {
  const { value, details } = ofClasses('f1', [0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1])
  near(value, 0.26666666)
  near(details?.micro, 1 / 3)
  near(details?.weighted, 0.26666666)
  // of two classes: precision 2/3, recall 1/2
  near(ofClasses('f1', [1, 1, 1, 1, 0], [1, 1, 0, 0, 1]).value, (2 * (2 / 3) * 0.5) / (2 / 3 + 0.5))
})

test('confusion: the example of sklearn.metrics.confusion_matrix', () => {
  const { value, details } = ofClasses('confusion', [2, 0, 2, 2, 0, 1], [0, 0, 2, 2, 0, 2])
  assert.deepEqual(details?.counts, [
    [2, 0, 0],
    [0, 0, 1],
    [1, 0, 2],
  ])
  near(value, 4 / 6)
})

test('per-class: the example of sklearn.metrics.classification_report', () => {
  const { value, details, table } = ofClasses('per-class', [0, 1, 2, 2, 2], [0, 0, 2, 2, 1])
  assert.deepEqual(details?.classes, [
    { name: '0', support: 1, precision: 0.5, recall: 1, f1: 2 / 3 },
    { name: '1', support: 1, precision: 0, recall: 0, f1: 0 },
    { name: '2', support: 3, precision: 1, recall: 2 / 3, f1: 0.8 },
  ])
  near(value, (1 + 0 + 2 / 3) / 3)
  assert.deepEqual(table?.[3], ['2', '3', '100.00 %', '66.67 %', '80.00 %'])
})

test('accuracy: ranks, ties, and the cross entropy of a uniform answer', () => {
  const measuring = metric('accuracy').start({ ...OUTPUT, lastDim: 6, classes: 6 })
  measuring.add({ got: [0, 0, 0, 0, 0, 0], want: [], label: 0 })
  measuring.add({ got: [5, 4, 3, 2, 1, 0], want: [], label: 4 })
  measuring.add({ got: [5, 4, 3, 2, 1, 0], want: [], label: 5 })
  const { value, details } = measuring.result()
  near(value, 1 / 3)
  near(details?.top5, 2 / 3)
  const sum = [5, 4, 3, 2, 1, 0].reduce((s, x) => s + Math.exp(x), 0)
  near(details?.loss, (Math.log(6) + (Math.log(sum) - 1) + Math.log(sum)) / 3)
  assert.match(String(measuring.add({ got: [0, 1], want: [], label: 0 })), /2 scores per sample.*6 classes/)
})

test('mse: the examples of sklearn.metrics.mean_squared_error and mean_absolute_error', () => {
  const { value, details } = ofValues('mse', [
    [
      [2.5, 0],
      [3, -0.5],
    ],
    [
      [2, 8],
      [2, 7],
    ],
  ])
  near(value, 0.375)
  near(details?.mae, 0.5)
  near(details?.rmse, 0.6123724)
})

test('psnr: bytes that differ by one are 48.13 dB, a tenth of the range 20 dB; equal ones are counted', () => {
  near(
    ofValues('psnr', [
      [
        [10, 21],
        [11, 20],
      ],
    ]).value,
    48.1308036,
  )
  const { value, details } = ofValues('psnr', [
    [
      [0.1, 0.9],
      [0, 1],
    ],
    [[0.5], [0.5]],
  ])
  near(value, 20)
  assert.deepEqual(details, { peak: 1, equal: 1 })
  assert.equal(ofValues('psnr', [[[1], [1]]]).value, Number.POSITIVE_INFINITY)
})

test('cosine: 45 degrees, opposites, zeros', () => {
  const { value, details } = ofValues('cosine', [
    [
      [1, 0],
      [1, 1],
    ],
    [
      [2, -2],
      [-1, 1],
    ],
    [
      [0, 0],
      [0, 0],
    ],
    [
      [0, 0],
      [1, 0],
    ],
  ])
  near(value, (Math.SQRT1_2 - 1 + 1 + 0) / 4)
  near(details?.least, -1)
})

const letters = (word: string): number[] => [...word].map((c) => c.charCodeAt(0))

test('word-error: jiwer ("hello world", "hello duck"), kitten and sitting, padding, scores', () => {
  near(
    ofValues(
      'word-error',
      [
        [
          [1, 3],
          [1, 2],
        ],
      ],
      { elem: 'int64' },
    ).value,
    0.5,
  )
  near(ofValues('word-error', [[letters('sitting'), letters('kitten')]], { elem: 'int32' }).value, 3 / 6)
  near(
    ofValues(
      'word-error',
      [
        [
          [7, -1, -1],
          [7, 8, -1],
        ],
      ],
      { elem: 'int64' },
    ).value,
    0.5,
  )
  // two positions, three scores each: tokens 2 and 0
  near(
    ofValues(
      'word-error',
      [
        [
          [0, 1, 5, 9, 1, 2],
          [2, 1],
        ],
      ],
      { lastDim: 3 },
    ).value,
    0.5,
  )
})

test('token-error: positions that count, of ids and of scores', () => {
  const { value, details } = ofValues(
    'token-error',
    [
      [
        [5, 6, 7, 8],
        [5, 0, 7, -100],
      ],
    ],
    { elem: 'int64' },
  )
  near(value, 1 / 3)
  assert.deepEqual(details, { wrong: 1, tokens: 3 })
  near(
    ofValues('token-error', [
      [
        [0, 1, 5, 9, 1, 2],
        [2, 1],
      ],
    ]).value,
    0.5,
  )
  const measuring = metric('token-error').start({ ...OUTPUT, elem: 'int64' })
  assert.match(String(measuring.add({ got: [1], want: [1, 2], label: -1 })), /1 tokens per sample and 2 are wanted/)
})

test("map: COCO's definition on boxes worked by hand", () => {
  const square = [0, 0, 10, 10]
  // exact
  near(
    ofValues('map', [
      [
        [...square, 0.9, 3],
        [...square, 3],
      ],
    ]).value,
    1,
  )
  // 0.6 of the union: right at 0.50, 0.55 and 0.60
  const part = ofValues('map', [
    [
      [0, 0, 10, 6, 0.9, 3],
      [...square, 3],
    ],
  ])
  near(part.value, 0.3)
  near(part.details?.ap50, 1)
  near(part.details?.ap75, 0)
  // a false box that scores higher halves the precision
  near(
    ofValues('map', [
      [
        [50, 50, 60, 60, 0.9, 1, ...square, 0.8, 1],
        [...square, 1],
      ],
    ]).value,
    0.5,
  )
  // one that scores lower does not count
  near(
    ofValues('map', [
      [
        [...square, 0.9, 1, 50, 50, 60, 60, 0.8, 1],
        [...square, 1],
      ],
    ]).value,
    1,
  )
  // half of what is wanted: recalls 0.00 to 0.50 of 101
  near(
    ofValues('map', [
      [
        [...square, 0.9, 1],
        [...square, 1, 20, 20, 30, 30, 1],
      ],
    ]).value,
    51 / 101,
  )
  // a second box on the same one is false; classes are apart; padding and empty rows do not count
  const mixed = ofValues('map', [
    [
      [...square, 0.9, 1, ...square, 0.8, 1, ...square, 0, 2],
      [...square, 1, ...square, 2, 0, 0, 0, 0, -1],
    ],
  ])
  near(mixed.value, 0.5)
  // boxes of all images are ranked together
  near(
    ofValues('map', [
      [
        [...square, 0.5, 1],
        [...square, 1],
      ],
      [
        [50, 50, 60, 60, 0.9, 1],
        [...square, 1],
      ],
    ]).details?.ap50,
    (51 / 101) * 0.5,
  )
})

test('each metric has a name of its own, a summary, and a file of that name', async () => {
  assert.equal(new Set(metrics.map((m) => m.name)).size, metrics.length)
  for (const m of metrics) {
    const exports = Object.values(await import(compiledUrl(`src/evaluate/metrics/${m.name}.ts`)))
    assert.ok(exports.includes(m), m.name)
    assert.ok(m.summary.length > 10)
  }
})

async function run(...words: string[]) {
  const [stdout, stderr] = [new Sink(), new Sink()]
  const exit = await runCommandLine(words, { stdout, stderr })
  return { exit, out: stdout.text, said: stderr.text }
}

test('mnc eval --metric: targets by output name, a reference, several at once, and what cannot be measured', async () => {
  const net = (factor: number) =>
    parseModel(`onnx {ir_version=10}
opset ai.onnx=21
graph "g"
  input %x : float32[N,3]
  init %f = float32[] [${factor}]
  init %axes = int64[1] [1]
  %y : float32[N,3] = Mul(%x, %f)
  %sum : float32[N,1] = ReduceSum(%x, %axes) {keepdims=1}
  output %y
  output %sum
end
`)
  const [two, three] = [join(scratch, 'two.onnx'), join(scratch, 'three.onnx')]
  await writeModel(net(2), two)
  await writeModel(net(3), three)
  const x = Float32Array.of(1, 2, 3, 4, 5, 6, -1, 0, 1)
  const labels = Int32Array.of(2, 1, 2)
  const files = {
    x: npy(x, [3, 3]),
    y: npy(
      x.map((v) => 2 * v + 1),
      [3, 3],
    ),
    labels: npy(labels, [3]),
    total: npy(Float32Array.of(6, 15, 2), [3]),
  }
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(scratch, `${name}.npy`), bytes)
  const data = ['--data', `npy:${scratch}`, '--map', 'sum=total']
  const both = await run('eval', two, ...data, '--metric', 'mse,accuracy', '--json')
  const { metrics: found, top1, samples } = JSON.parse(both.out)
  assert.equal(found.mse.outputs.y.value, 1)
  near(found.mse.outputs.sum.value, 4 / 3)
  near(found.mse.value, (1 + 4 / 3) / 2)
  assert.deepEqual([top1, samples], [2 / 3, 3])
  const alone = JSON.parse((await run('eval', two, ...data, '--metric', 'f1', '--json')).out)
  assert.deepEqual([Object.keys(alone.metrics), alone.top1], [['f1'], undefined])
  assert.match((await run('eval', two, ...data, '--metric', 'per-class')).out, /class +samples +precision/)
  // a reference that is asked for takes the place of what the data hold
  const beside = await run('eval', two, ...data, '--metric', 'mse', '--reference', three, '--json')
  near(JSON.parse(beside.out).metrics.mse.outputs.y.value, x.reduce((s, v) => s + v * v, 0) / 9, 5)
  rmSync(join(scratch, 'y.npy'))
  rmSync(join(scratch, 'total.npy'))
  const plain = ['--data', `npy:${scratch}`]
  const compared = await run(
    'eval',
    two,
    ...plain,
    '--metric',
    'cosine',
    '--metric',
    'mse',
    '--reference',
    three,
    '--json',
  )
  const { cosine, mse } = JSON.parse(compared.out).metrics
  near(cosine.outputs.y.value, 1)
  near(mse.outputs.y.value, x.reduce((s, v) => s + v * v, 0) / 9, 5)
  const refusals: [string[], RegExp][] = [
    [['--metric', 'f2'], /there is no metric 'f2' \(did you mean 'f1'\?\)/],
    [['--metric', 'mse'], /compares outputs with numbers.*--reference FILE/],
    [['--metric', 'f1', '--min-accuracy', '0.9'], /--min-accuracy needs the accuracy/],
  ]
  for (const [flags, message] of refusals) {
    const { exit, said } = await run('eval', two, ...plain, ...flags)
    assert.equal(exit, 2, said)
    assert.match(said, message)
  }
})
