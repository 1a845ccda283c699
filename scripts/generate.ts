/** `npm run generate`: writes the files that are made from declarations. */
import { writeFileAtomic } from '../src/base/files.ts'
import { generatedFiles } from './generated.ts'

for (const [path, content] of await generatedFiles()) await writeFileAtomic(path, content)
