import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { SuiteResult, Table } from '../report.ts'
import type { SuiteContext } from './suite.ts'

/** What a micro-benchmark printed; a row tells of its failure. */
export interface MicroResult extends Pick<SuiteResult, 'skipped' | 'text'> {
  readonly rows: Table['rows']
}

/** Runs a micro-benchmark (`micro/NAME.ts`) in a process of its own, on the proxy's core; what it prints is taken as it is. */
export async function runMicro(name: string, context: SuiteContext): Promise<MicroResult> {
  const script = join(import.meta.dirname, '..', name)
  if (!existsSync(script)) return { skipped: [{ name, reason: 'it does not exist in this checkout' }], rows: [] }
  const { taskset, proxyCores } = context.bench.machine
  const pin = taskset === undefined || proxyCores === undefined ? [] : [taskset, '-c', proxyCores]
  const [program, ...args] = [...pin, process.execPath, script]
  context.progress(name)
  try {
    const { stdout } = await promisify(execFile)(program, args, { timeout: 120_000 })
    return { skipped: [], text: stdout, rows: [] }
  } catch (error) {
    const failure = error instanceof Error ? error.message : String(error)
    return { skipped: [], rows: [{ variant: name, samples: {}, failure }] }
  }
}
