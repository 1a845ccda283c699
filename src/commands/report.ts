/** `mnc report`: a recipe's run as one page. */
import { defineCommand, output } from './define-command.ts'

export const report = defineCommand({
  name: 'report',
  summary: "Write a recipe's run as one HTML page: accuracy, loss, size, score, layers, weights, checks",
  arguments: [{ name: 'WORKDIR', description: 'The work folder of mnc run' }],
  options: {
    seconds: {
      type: 'number',
      default: 1,
      minimum: 0,
      description: 'Seconds to measure the latency of each file that deploys; 0 measures none',
    },
    output: { ...output, description: 'Output file, WORKDIR/report.html by default; - is standard output' },
  },
  examples: ['mnc report build/quickstart -o report.html'],
  async run([workdir = ''], { output, seconds }, io) {
    const { join } = await import('node:path')
    const { writeFileAtomic } = await import('../base/files.ts')
    const { reportFacts } = await import('../recipes/report-facts.ts')
    const { reportPage } = await import('../recipes/report.ts')
    const facts = await reportFacts(workdir, { log: (m) => io.log(m), seconds })
    const out = output ?? join(workdir, 'report.html')
    await writeFileAtomic(out, await reportPage(facts))
    io.wrote(out, { recipe: facts.recipe, stages: facts.stages.map((s) => s.name) })
  },
})
