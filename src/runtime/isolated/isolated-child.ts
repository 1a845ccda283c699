/** The process that runs untrusted models (engine.ts starts it; serve.ts does the work). */
import { watchProcess } from '../../base/watched-process.ts'
import { serve } from './serve.ts'

watchProcess(Number(process.argv[2]))
serve()
