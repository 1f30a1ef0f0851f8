import { once } from 'node:events'
import type { EnvoyLoadContext, ResourceResult } from '../../xds-client/envoy/load.ts'
import { loadResourceLine, readBootstrap } from '../../xds-client/envoy/load.ts'
import { ConfigError, ConfigRefused } from '../core/errors.ts'
import { type BootstrapSource, readDocument } from './bootstrap-document.ts'
import { registryOf } from './known-filters.ts'
import { readLines } from './read-lines.ts'
import { lowerFilters } from './standard-filters.ts'
import { resourceTypeCheck } from './xds/check.ts'

/** Where a command writes; `process` is one. */
export interface Output {
  readonly stdout: NodeJS.WritableStream
  readonly stderr: NodeJS.WritableStream
}

/**
 * `headgate validate --config`: every mistake on standard error, one per line, and status 1; or "configuration OK", with
 * a warning for each field that is set and has no effect, and status 0.
 */
export function validateConfig(source: BootstrapSource, context: EnvoyLoadContext, output: Output): number {
  try {
    const parsed = readDocument(source, context.registry)
    if (parsed === undefined) throw new ConfigRefused([new ConfigError('', 'there is no configuration')])
    const { config } = readBootstrap(parsed, context)
    for (const field of config.ignored) {
      const warning = new ConfigError(field, 'is set and has no effect here', parsed.place(field))
      output.stderr.write(`warning: ${warning.toString()}\n`)
    }
    output.stdout.write('configuration OK\n')
    return 0
  } catch (error) {
    if (!(error instanceof ConfigRefused)) throw error
    for (const mistake of error.errors) output.stderr.write(`${mistake.toString()}\n`)
    return 1
  }
}

/** Judges the text of one resource. */
export type Judge = (line: string) => ResourceResult

/** Judges resources as the client does that has them delivered. */
export function resourceJudge(context: EnvoyLoadContext): Judge {
  const check = resourceTypeCheck(registryOf([]), lowerFilters())
  return (line) => loadResourceLine(line, context, check)
}

/**
 * `headgate validate --resources`: judges each line of a file by itself, and writes one line of JSON for each. Status 0
 * if none was refused. Blank lines are skipped.
 */
export async function validateResources(path: string, judge: Judge, output: Output): Promise<number> {
  let status = 0
  try {
    for await (const line of readLines(path)) {
      if (line?.trim() === '') continue
      const result = line === undefined ? NOT_TEXT : judge(line)
      if (result.result === 'refused') status = 1
      if (!output.stdout.write(`${JSON.stringify(result)}\n`)) await once(output.stdout, 'drain')
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall === undefined) throw error
    output.stderr.write(`${path}: cannot be read: ${(error as Error).message}\n`)
    return 1
  }
  return status
}

const NOT_TEXT: ResourceResult = Object.freeze({
  type: '',
  name: '',
  result: 'refused',
  errors: [{ path: '', message: 'is not valid UTF-8' }],
  ignored: [],
})
