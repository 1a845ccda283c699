/**
 * A folder of class sub-folders with PNG, JPEG or WebP files, or of pictures with a file of labels, or without any
 * (labelled-files.ts).
 */
import type { Dataset, Split } from '../dataset.ts'
import type { ReadOptions } from '../read-options.ts'
import type { FileKind } from './folder-tree.ts'
import { labelledFiles } from './labelled-files.ts'
import { pictureSet } from './picture-set.ts'

const pictureFiles: FileKind = {
  format: 'folder',
  what: 'pictures',
  files: 'PNG, JPEG or WebP files',
  pattern: /\.(png|jpe?g|webp)$/i,
}

/** Finds a split's pictures; a usage error for an empty folder, a file that is not a picture, or a missing decoder. */
export async function openFolder(folder: string, split: Split, how: ReadOptions): Promise<Dataset> {
  const { files, isTraining, ...own } = labelledFiles(folder, split, pictureFiles)
  const init = {
    ...{ ...own, name: `folder:${folder}#${split}`, split, labels: Int32Array.from(files, (f) => f.label) },
    places: files.map(({ path }) => ({ path, part: null })),
    training: isTraining ? null : () => openFolder(folder, 'train', how),
  }
  return pictureSet(init, how)
}
