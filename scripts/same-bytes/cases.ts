/**
 * The commands that both builds run. A case is a list of commands in a folder of its own; those of one case follow on one
 * another, cases do not. Inputs lie in ../in (inputs.ts).
 *
 * Left out, because time is all that they write or the machine all that they show: --tensorboard, --profile, doctor.
 */
import { readdirSync } from 'node:fs'
import { basename } from 'node:path'

export interface Case {
  readonly name: string
  readonly commands: readonly string[]
  /** Commands may end with another code than 0. */
  readonly isRefused?: boolean
}

const IN = '../in'
const train = (model: string, rest: string, out: string, steps = 3): string =>
  `train ${model} --data embedded --max-steps ${steps} --batch 8 --limit 64 --threads 1 ${rest} -o ${out}.onnx`

const networks = ['lenet', 'quickstart-student', 'densenet-bc-40-12'].map((spec) => ({
  name: `build ${spec}`,
  commands: [
    `build ${spec} -o net.onnx --seed 3`,
    'info net.onnx --json',
    'info net.onnx',
    'score net.onnx',
    'score net.onnx --accumulator adder-tree --float-bits 16 --json',
    'convert net.onnx --text -o net.txt',
    'convert net.txt -o again.onnx',
    'convert net.onnx --dim N=2 --external-data -o fixed.onnx',
    'diff net.onnx fixed.onnx --all',
    'check net.onnx again.onnx --layers',
  ],
}))

/** Groups of training options, each a short run of the small residual network. */
const trainings = (
  [
    ['sgd', '--nesterov --clip-norm 1 --no-decay-all --label-smoothing 0.1 --augment none'],
    ['adamw', '--optimizer adamw --weight-decay 0.05 --schedule linear --warmup-steps 1'],
    ['accumulate', '--accumulate 2 --ema 0.9 --schedule step --milestones 0.3,0.6 --gamma 0.5'],
    ['validation', '--val-fraction 0.25 --patience 1 --epochs 2 --augment micronet --log log.jsonl'],
    ['bn frozen', '--bn frozen --schedule constant --workers 0'],
    ['kl', `--teacher ${IN}/teacher.onnx --loss kl --alpha 0.5 --temperature 2 --log log.jsonl`],
    ['reverse-kl', `--teacher ${IN}/teacher.onnx --teacher-bn batch --augment none`],
    ['mse', `--teacher ${IN}/teacher.onnx --loss mse --optimizer adamw`],
    ['tfjs', '--device tfjs:cpu --augment none'],
  ] as const
).map(([name, options]) => ({
  name: `train ${name}`,
  commands: [train(`${IN}/small.onnx`, options, 'out'), 'eval out.onnx --data embedded --limit 100 --threads 1 --json'],
}))

const prune = `pass prune ${IN}/small.onnx`
const quantize = 'pass quantize --data embedded --limit 32 --batch 16'

const compression: Case[] = [
  {
    name: 'train pruned',
    commands: [
      `${prune} --sparsity 0.75 --explain --json -o p.onnx`,
      train('p.onnx', '--mask-update-every 1 --mask-update-until 3 --mask-schedule cubic', 'cubic', 4),
      train('p.onnx', '--mask-update-every 2 --mask-update-until 2', 'moved', 4),
      train('p.onnx', '', 'kept'),
      'info cubic.onnx --json',
      'diff p.onnx kept.onnx --json',
      `${prune} --pattern 2:4 --ops Conv,Gemm -o nm.onnx`,
      `${prune} --scope layer --sparsity 0.5 --layer-sparsity stem*=0.1 -o layer.onnx`,
      'export cubic.onnx --explain --json -o e.onnx',
      'check cubic.onnx e.onnx --data embedded --limit 50',
    ],
  },
  {
    name: 'train channels',
    commands: [
      `${prune} --pattern channel --sparsity 0.3 -o p.onnx`,
      train('p.onnx', '--augment none', 't'),
      'pass remove-channels t.onnx --explain --json -o r.onnx',
      'check t.onnx r.onnx --layers',
      'info r.onnx --json',
    ],
  },
  {
    name: 'train quantised',
    commands: [
      `${quantize} ${IN}/small.onnx --explain -o q.onnx`,
      train('q.onnx', '--scales learn', 'learn'),
      train('q.onnx', '--scales refit', 'refit', 9),
      train('q.onnx', `--scales keep --teacher ${IN}/teacher.onnx --loss kl`, 'keep'),
      'pass lower-fake-quant learn.onnx -o lowered.onnx',
      'info learn.onnx --json',
      'bn-update learn.onnx --data embedded --limit 64 --batch 16 -o bn.onnx',
      'score bn.onnx --json',
      'export bn.onnx --format packed --explain --json -o packed.onnx',
      'export bn.onnx --format int4 --explain --json -o int4.onnx',
      'export bn.onnx --format int8 --explain -o int8.onnx',
      'check bn.onnx packed.onnx --data embedded --limit 50',
      'check bn.onnx int4.onnx --layers',
    ],
  },
  {
    name: 'export int8',
    commands: [
      `${quantize} ${IN}/small.onnx --ops Conv,Gemm --weight-bits 8 --activation-bits 8 --weight-scale mse -o q.onnx`,
      'pass quantize-outputs q.onnx --data embedded --limit 32 -o qa.onnx',
      'export qa.onnx --format int8 --explain --json -o a.onnx',
      'export qa.onnx --format int8 --packed-weights --allow-larger -o b.onnx',
      'export qa.onnx --format int8 --row-pairs --allow-larger -o c.onnx',
      'export qa.onnx --format int8 --short-names -o d.onnx',
      'check qa.onnx a.onnx --data embedded --limit 50',
      'check qa.onnx c.onnx --data embedded --limit 50 --max-drop 0.5',
    ],
  },
  {
    name: 'quantize options',
    commands: [
      `${quantize} ${IN}/small.onnx --calibration max --weight-scale max --granularity tensor -o a.onnx`,
      `${quantize} ${IN}/small.onnx --calibration percentile --percentile 99 --signed-inputs symmetric -o b.onnx`,
      `${quantize} ${IN}/small.onnx --calibration entropy --first-layer quantize --last-layer skip -o c.onnx`,
      `${quantize} ${IN}/small.onnx --weight-bits 0 --layer-activation-bits stage2*=8 -o d.onnx`,
      `${quantize} ${IN}/small.onnx --activation-bits 0 --layer-weight-bits stage2*=2 --exclude stem* -o e.onnx`,
      'export e.onnx -o f.onnx',
      'info e.onnx',
    ],
  },
  {
    name: 'train frozen',
    commands: [
      `pass freeze ${IN}/small.onnx --all-but fc,logits -o f.onnx`,
      train('f.onnx', '--augment none', 'a'),
      train('f.onnx', '--augment none --no-cache-features', 'b'),
      'diff a.onnx b.onnx',
    ],
  },
  {
    name: 'train resumed',
    commands: [
      // with a validation set the last checkpoint stays, and more steps go on from it
      train(`${IN}/small.onnx`, '--val-fraction 0.25 --epochs 2 --log log.jsonl', 'a', 4),
      train(`${IN}/small.onnx`, '--val-fraction 0.25 --epochs 2 --log log.jsonl --resume', 'a', 9),
      train(`${IN}/small.onnx`, '--val-fraction 0.25 --epochs 2 --optimizer adamw --ema 0.9', 'b', 3),
      train(`${IN}/small.onnx`, '--val-fraction 0.25 --epochs 2 --optimizer adamw --ema 0.9 --resume', 'b', 5),
    ],
  },
  {
    name: 'train random data',
    commands: [
      `train ${IN}/random-3.onnx --data random --teacher ${IN}/random-3.onnx --max-steps 3 --batch 4 --threads 1 -o a.onnx`,
      `train ${IN}/random-11.onnx --data random --teacher ${IN}/random-11.onnx --max-steps 3 --batch 4 --threads 1 -o b.onnx`,
      `train ${IN}/random-14.onnx --data random --teacher ${IN}/random-14.onnx --loss l1 --max-steps 3 --batch 4 -o c.onnx`,
    ],
  },
]

const others: Case[] = [
  {
    name: 'convert',
    commands: [
      `convert ${IN}/random-0.onnx --text -o -`,
      `convert ${IN}/random-1.onnx --opset 22 -o a.onnx`,
      `convert ${IN}/random-5.onnx --opset 25 --text -o b.txt`,
      `convert ${IN}/goldens/upgrade-opset-from-9.txt --opset 21 -o c.onnx`,
      `convert ${IN}/small.onnx --input-shape 2,1,28,28 --text -o d.txt`,
    ],
  },
  {
    name: 'sensitivity',
    commands: [
      `sensitivity ${IN}/small.onnx --data embedded --limit 50 --calibrate 20 --threads 1 --sparsity 0.5 --weight-bits 4 --activation-bits 4 -o a.json`,
      `sensitivity ${IN}/small.onnx --sparsity 0.75 --weight-bits 2 --ops Conv,Gemm --threads 1 -o b.json --json`,
      `pass prune ${IN}/small.onnx --layer-sparsity @a.json -o p.onnx`,
    ],
  },
  {
    name: 'recipe tiny',
    commands: [
      `run ${IN}/tiny.json --workdir work`,
      `run ${IN}/tiny.json --workdir work --json`,
      'report work -o report.html',
    ],
  },
  {
    name: 'recipe quickstart',
    commands: [`run ${IN}/quickstart.json --workdir work`, 'report work -o report.html'],
  },
  {
    name: 'words',
    commands: [
      ...['--help', '--version', 'pass --list', 'pass --list --json'],
      ...['train', 'export', 'check', 'run', 'info', 'score', 'sensitivity'].map((c) => `${c} --help`),
      ...['pass prune --help', 'pass quantize --help', 'pass remove-channels --help'],
      ...['bash', 'zsh', 'fish'].map((shell) => `completion ${shell}`),
    ],
  },
  {
    name: 'refusals',
    isRefused: true,
    commands: [
      'info nowhere.onnx',
      `info ${IN}/damaged.onnx --json`,
      `info ${IN}/tiny.json`,
      `pass prunes ${IN}/small.onnx`,
      `pass prune ${IN}/small.onnx --sparsity 2 -o a.onnx`,
      `pass quantize ${IN}/small.onnx -o a.onnx`,
      `train ${IN}/small.onnx --data embedded --loss mse -o a.onnx`,
      `train ${IN}/small.onnx --data cifar10:nowhere -o a.onnx`,
      `export ${IN}/small.onnx -o a.onnx`,
      `check ${IN}/small.onnx ${IN}/teacher.onnx --max-drop 0`,
      `run ${IN}/small.onnx`,
      'report .',
    ],
  },
]

/** What untrusted models go through. */
const stranger = (file: string): Case => ({
  name: `zoo ${basename(file)}`,
  isRefused: true,
  commands: [
    `info ${file} --json`,
    `convert ${file} --text -o a.txt`,
    `pass fold-bn ${file} -o b.onnx`,
    `pass prune ${file} --ops Conv,Gemm,MatMul -o c.onnx --json`,
    'pass quantize c.onnx --activation-bits 0 --ops Conv,Gemm,MatMul -o d.onnx --json',
    'export d.onnx -o e.onnx --json',
  ],
})

export function casesOf(zoo: string | null): Case[] {
  const strangers = zoo ? readdirSync(zoo).filter((f) => f.endsWith('.onnx')) : []
  return [...compression, ...trainings, ...networks, ...others, ...strangers.sort().map((f) => stranger(`${zoo}/${f}`))]
}
