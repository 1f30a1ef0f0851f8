import type { FieldReader } from '../../lib/core/field-reader.ts'
import {
  type AvoidedHostsConfig,
  GRPC_RETRY_CONDITIONS,
  RETRY_CONDITIONS,
  type RetryCondition,
  type RetryPolicyConfig,
} from '../../lib/core/retry-policy.ts'
import { parseHeaderMatch } from '../../lib/match/parse.ts'
import type { HedgeConfig } from '../../lib/router/config.ts'
import { durationMs } from './durations.ts'
import { translateMetadataMatch } from './metadata.ts'
import { consume, typedExtension } from './refusals.ts'

const HOST = 'envoy.extensions.retry.host.'
const PREVIOUS_HOSTS = `${HOST}previous_hosts.v3.PreviousHostsPredicate`
const OMIT_CANARY = `${HOST}omit_canary_hosts.v3.OmitCanaryHostsPredicate`
const OMIT_METADATA = `${HOST}omit_host_metadata.v3.OmitHostMetadataConfig`
const PREVIOUS_PRIORITIES = 'envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig'

/** Envoy's defaults. */
const BASE_MS = 25
const RESET_MAX_MS = 300_000

const CONDITIONS: ReadonlySet<string> = new Set([...RETRY_CONDITIONS, ...GRPC_RETRY_CONDITIONS])

/** `retry_policy` (`config.route.v3.RetryPolicy`) of a route, a virtual host or a cluster; undefined where there is none. */
export function translateRetryPolicy(parent: FieldReader): RetryPolicyConfig | undefined {
  const reader = parent.message('retry_policy')
  if (reader === undefined) return undefined
  reader.unread('refuse')
  reader.refuse('retry_options_predicates', 'retry options predicates are not available')
  const perTryTimeoutMs = durationMs(reader, 'per_try_timeout')
  const perTryIdleTimeoutMs = durationMs(reader, 'per_try_idle_timeout')
  const statuses = reader.numbers('retriable_status_codes')
  const responseHeaders = reader.messages('retriable_headers').map(parseHeaderMatch)
  const requestHeaders = reader.messages('retriable_request_headers').map(parseHeaderMatch)
  const resetBackOff = translateResetBackOff(reader.message('rate_limited_retry_back_off'))
  const avoid = translateAvoided(reader)
  const otherPriorities = translatePriorities(reader.message('retry_priority'))
  return {
    on: translateConditions(reader),
    retries: reader.number('num_retries') ?? 1,
    ...(perTryTimeoutMs && { perTryTimeoutMs }),
    ...(perTryIdleTimeoutMs && { perTryIdleTimeoutMs }),
    ...(statuses.length > 0 && { statuses }),
    ...(responseHeaders.length > 0 && { responseHeaders }),
    ...(requestHeaders.length > 0 && { requestHeaders }),
    backOff: translateBackOff(reader.message('retry_back_off')),
    ...(resetBackOff && { resetBackOff }),
    ...(avoid && { avoid }),
    selectionAttempts: reader.number('host_selection_retry_max_attempts') ?? 1,
    ...(otherPriorities && { otherPriorities }),
    ...(reader.bool('refresh_cluster_on_retry') && { otherClusters: true }),
  }
}

/** `hedge_policy`, of which Envoy itself knows the per-try timeout alone. */
export function translateHedgePolicy(parent: FieldReader): HedgeConfig | undefined {
  const reader = parent.message('hedge_policy')
  if (reader === undefined) return undefined
  reader.ignore('initial_requests', 'additional_request_chance')
  return { onPerTryTimeout: reader.bool('hedge_on_per_try_timeout') }
}

/** Envoy passes over words that it does not know; here they are reported. */
function translateConditions(reader: FieldReader): RetryCondition[] {
  const words = reader
    .string('retry_on')
    .split(',')
    .map((word) => word.trim())
    .filter((word) => word !== '')
  if (!words.every((word) => CONDITIONS.has(word))) reader.ignore('retry_on')
  return words.filter((word) => CONDITIONS.has(word)) as RetryCondition[]
}

function translateBackOff(reader: FieldReader | undefined): RetryPolicyConfig['backOff'] {
  const baseMs = Math.max(1, durationMs(reader, 'base_interval') ?? BASE_MS)
  const maxMs = durationMs(reader, 'max_interval') ?? 10 * baseMs
  if (maxMs < baseMs) reader?.error('max_interval', 'must not be less than base_interval')
  return { baseMs, maxMs: Math.max(1, maxMs) }
}

function translateResetBackOff(reader: FieldReader | undefined): RetryPolicyConfig['resetBackOff'] {
  if (reader === undefined) return undefined
  const headers = reader.messages('reset_headers').map((header) => ({
    name: header.string('name').toLowerCase(),
    format: header.enumName('format') === 'UNIX_TIMESTAMP' ? ('unix-timestamp' as const) : ('seconds' as const),
  }))
  return { headers, maxMs: durationMs(reader, 'max_interval') ?? RESET_MAX_MS }
}

function translateAvoided(reader: FieldReader): AvoidedHostsConfig | undefined {
  let avoid: AvoidedHostsConfig | undefined
  for (const entry of reader.messages('retry_host_predicate')) {
    const extension = typedExtension(entry)
    switch (extension?.typeUrl) {
      case PREVIOUS_HOSTS:
        avoid = { ...avoid, previous: true }
        break
      case OMIT_CANARY:
        avoid = { ...avoid, canary: true }
        break
      case OMIT_METADATA: {
        const labels = translateMetadataMatch(extension.fields.unread('refuse'), 'metadata_match')
        if (labels !== undefined) avoid = { ...avoid, labels: [...(avoid?.labels ?? []), labels] }
        break
      }
      default:
        if (extension !== undefined) consume(extension)
        entry.error('typed_config', `retry host predicate "${extension?.typeUrl ?? ''}" is not available`)
    }
  }
  return avoid
}

function translatePriorities(reader: FieldReader | undefined): RetryPolicyConfig['otherPriorities'] {
  const extension = typedExtension(reader)
  if (reader === undefined) return undefined
  if (extension?.typeUrl === PREVIOUS_PRIORITIES) {
    return { updateFrequency: Math.max(1, extension.fields.unread('refuse').number('update_frequency') ?? 1) }
  }
  if (extension !== undefined) consume(extension)
  reader.error('typed_config', `retry priority "${extension?.typeUrl ?? ''}" is not available`)
  return undefined
}
