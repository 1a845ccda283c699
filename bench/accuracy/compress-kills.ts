/**
 * `mnc compress` of ResNet-20 to 85 KB with fine-tuning, killed at ten random moments and called again each time: the file and the
 * recipe are those of a run that nobody killed, to the byte, or this ends with an error.
 *
 *   node --import tsx bench/accuracy/compress-kills.ts [--kills 10] [--time 2m]
 *
 * Expects a build, CIFAR-10 in .data, the model in .data/zoo. Fewer images are held out and calibrated on than by default, so that it
 * takes minutes.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { killedAndCalledAgain } from '../../test/support/killed.ts'

const { values: given } = parseArgs({
  options: {
    kills: { type: 'string', default: '10' },
    time: { type: 'string', default: '2m' },
    seed: { type: 'string', default: '1' },
  },
})
const folder = mkdtempSync(join(tmpdir(), 'mnc-kills-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
const command = [
  ...[process.execPath, 'dist/cli.js', 'compress', '.data/zoo/akamaster_resnet20_bn_op13.onnx'],
  ...['--data', 'cifar10:.data/cifar-10', '--mean', '0.485,0.456,0.406', '--std', '0.229,0.224,0.225'],
  ...['--goal', 'bytes=85KB', '--time', given.time, '--effort', 'fast', '--held', '500', '--limit', '128'],
]
const start = performance.now()
const killed = await killedAndCalledAgain({ command, folder, kills: Number(given.kills), seed: Number(given.seed) })
console.log(JSON.stringify({ killed, seconds: Math.round((performance.now() - start) / 1000), same: true }))
