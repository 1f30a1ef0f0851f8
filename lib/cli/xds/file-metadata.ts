import { readFileSync } from 'node:fs'
import type { GrpcTargetConfig } from '../../../xds-client/config.ts'
import type { Log } from '../../core/metrics.ts'

/** RFC 9110 section 5.5 forbids these in field values. */
const BAD_VALUE = /[\0\r\n]/

/**
 * Metadata whose values are in files, as the files are now: tokens are renewed by writing them anew. Flat, as in
 * `Headers.raw`. One that cannot be read, or is no header value, is left out and logged: the server says what it lacks.
 */
export function readFileMetadata(target: GrpcTargetConfig, log: Log): string[] {
  const raw: string[] = []
  for (const { header, prefix, path } of target.fileMetadata ?? []) {
    try {
      const value = prefix + readFileSync(path, 'utf8').trim()
      if (BAD_VALUE.test(value)) throw new Error('holds more than one line')
      raw.push(header, value)
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      log.warn('metadata for a management server cannot be read from its file', { header, path, reason })
    }
  }
  return raw
}
