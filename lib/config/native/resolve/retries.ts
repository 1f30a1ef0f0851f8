import type { RetryPolicyConfig } from '../../../core/retry-policy.ts'
import { indexPath } from '../../../proto/path.ts'
import type { NativeHeaderMatch } from '../matches.ts'
import type { NativeRetry } from '../retries.ts'
import { readHeaderMatch } from './matches.ts'
import { defined, type Reading } from './reading.ts'

const BASE_MS = 25
const RESET_MAX_MS = 300_000

export function readRetry(retry: NativeRetry, path: string, reading: Reading): RetryPolicyConfig {
  const { responseHeaders, requestHeaders, resetBackOff, avoid, otherPriorities: other = false } = retry
  const headers = (list: readonly NativeHeaderMatch[], field: string): RetryPolicyConfig['responseHeaders'] =>
    list.map((header, i) => readHeaderMatch(header, indexPath(`${path}.${field}`, i), reading))
  return reading.origins.at(path, {
    on: [...retry.on],
    retries: retry.retries ?? 1,
    ...defined({
      perTryTimeoutMs: retry.perTryTimeoutMs || undefined,
      perTryIdleTimeoutMs: retry.perTryIdleTimeoutMs || undefined,
      statuses: retry.statuses && [...retry.statuses],
      responseHeaders: responseHeaders && headers(responseHeaders, 'responseHeaders'),
      requestHeaders: requestHeaders && headers(requestHeaders, 'requestHeaders'),
    }),
    backOff: readBackOff(retry.backOff ?? {}, `${path}.backOff`, reading),
    ...(resetBackOff && {
      resetBackOff: {
        headers: resetBackOff.headers.map(({ name, format = 'seconds' }) => ({ name: name.toLowerCase(), format })),
        maxMs: resetBackOff.maxMs ?? RESET_MAX_MS,
      },
    }),
    ...(avoid && { avoid: structuredClone(defined(avoid)) }),
    selectionAttempts: retry.selectionAttempts ?? 1,
    ...(other !== false && { otherPriorities: { updateFrequency: other === true ? 1 : other } }),
    ...(retry.otherClusters === true && { otherClusters: true }),
  })
}

function readBackOff(
  { baseMs = BASE_MS, maxMs = 10 * baseMs }: NonNullable<NativeRetry['backOff']>,
  path: string,
  { findings }: Reading,
): RetryPolicyConfig['backOff'] {
  if (maxMs < baseMs) findings.error(`${path}.maxMs`, 'must not be less than baseMs')
  return { baseMs, maxMs }
}
