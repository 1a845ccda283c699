/**
 * Specs of networks: a family, its options, and how pixels become its input. One JSON object,
 * flat: `{"family": "densenet-bc", "depth": 100, "growth": 12, "classes": 100, "mean": [...], "std": [...]}`. A spec is
 * named by a file in models/ (`densenet-bc-100-12`), by a path, or by a family alone (its defaults).
 */
import { existsSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { MncError, usageError } from '../base/errors.ts'
import { readText } from '../base/files.ts'
import { nearest, type OptionsOf, parseOptions } from '../base/options.ts'
import { packageFile } from '../base/package-files.ts'
import { Rng } from '../base/rng.ts'
import { writePreprocess } from '../data/preprocess.ts'
import type { Model } from '../graph/model.ts'
import { type NetworkDef, pixelOptions } from './define-network.ts'
import { networks } from './index.ts'
import { NetworkBuilder } from './layers.ts'

/** A family and its options. */
export interface NetworkSpec {
  readonly family: string
  readonly [option: string]: unknown
}

/** The specs that come with the package. */
const SPEC_FOLDER = packageFile('models/')

/** Keys that a spec file may contain besides the family's options. */
const documentKeys = ['$schema', 'family', 'description']

/** Names of the specs in models/, sorted; a JSON file there without a `family` is not a spec (it may be a recipe). */
async function specNames(): Promise<readonly string[]> {
  const files = (await readdir(SPEC_FOLDER)).filter((f) => f.endsWith('.json')).sort()
  const texts = await Promise.all(files.map((f) => readText(join(SPEC_FOLDER, f))))
  return files.filter((_, i) => isSpec(JSON.parse(texts[i]!))).map((f) => f.slice(0, -'.json'.length))
}

/** Every reference that is not a file: names in models/, and families. */
export const referenceNames = async (): Promise<readonly string[]> => [
  ...(await specNames()),
  ...networks.map((n) => n.family),
]

const isSpec = (x: unknown): x is NetworkSpec =>
  typeof x === 'object' && x !== null && 'family' in x && typeof x.family === 'string'

/** Reads a spec: a name in models/, a family, or a JSON file. Usage error where it is none of them. */
export async function loadSpec(reference: string): Promise<NetworkSpec> {
  const named = join(SPEC_FOLDER, `${reference}.json`)
  if (/^[\w.-]+$/.test(reference) && existsSync(named)) return readSpec(named, reference)
  if (networks.some((n) => n.family === reference)) return { family: reference }
  if (existsSync(reference)) return readSpec(reference, reference)
  const known = await specNames()
  const families = networks.map((n) => n.family)
  const near = nearest(reference, [...known, ...families])
  throw usageError(
    `'${reference}' is neither a spec in models/, nor a family, nor a JSON file${near ? `, did you mean '${near}'?` : ''}`,
    `specs: ${known.join(', ')}; families: ${families.join(', ')}`,
  )
}

async function readSpec(path: string, shown: string): Promise<NetworkSpec> {
  const bad = (message: string, cause?: unknown): MncError =>
    new MncError(message, { code: 'bad-spec', blame: 'user', file: shown, cause })
  const text = await readText(path)
  let spec: unknown
  try {
    spec = JSON.parse(text)
  } catch (cause) {
    throw bad(`not valid JSON: ${cause instanceof Error ? cause.message : cause}`, cause)
  }
  if (!isSpec(spec)) throw bad('a network spec is a JSON object with a "family"')
  return spec
}

function requireFamily(family: string): NetworkDef {
  const found = networks.find((n) => n.family === family)
  if (found) return found
  const near = nearest(
    family,
    networks.map((n) => n.family),
  )
  throw usageError(`unknown network family '${family}'${near ? `, did you mean '${near}'?` : ''}`)
}

/**
 * Builds the network of a spec with fresh weights. The same spec and seed give the same model. Without a seed (null) weights are
 * zero: drawing them takes most of the time that building a network takes.
 */
export function buildNetwork(spec: NetworkSpec, { seed = 0 }: { seed?: number | null } = {}): Model {
  const def: NetworkDef = requireFamily(spec.family)
  const given = Object.fromEntries(Object.entries(spec).filter(([k]) => !documentKeys.includes(k)))
  const own = parseOptions(
    def.options,
    pick(given, (k) => !(k in pixelOptions)),
    def.family,
  )
  const pixels = parseOptions(
    pixelOptions,
    pick(given, (k) => k in pixelOptions),
    def.family,
  )
  const model = def.build(own, new NetworkBuilder(seed === null ? null : new Rng(seed)))
  recordPixels(model, pixels)
  return model
}

/** Writes the preprocessing into the model's metadata, if the spec has it. */
function recordPixels(model: Model, { mean, std, scale }: OptionsOf<typeof pixelOptions>): void {
  if (!mean && !std) return
  const [, channels, size] = model.graph.inputs[0]!.type!.dims as [unknown, number, number]
  if (mean?.length !== channels || std?.length !== channels)
    throw usageError(
      `mean and std need one number for each of the ${channels} channels`,
      'the spec has them for another number of channels: give --mean and --std',
    )
  if (std.some((x) => !(x > 0))) throw usageError('std must be positive')
  writePreprocess(model, { scale, mean, std, size: [size, size], layout: 'NCHW' })
}

const pick = (o: Readonly<Record<string, unknown>>, keep: (key: string) => boolean): Record<string, unknown> =>
  Object.fromEntries(Object.entries(o).filter(([k]) => keep(k)))
