import { z } from 'zod'
import {
  type AvoidedHostsConfig,
  GRPC_RETRY_CONDITIONS,
  RETRY_CONDITIONS,
  type ResetHeaderConfig,
} from '../../../core/retry-policy.ts'
import type { NativeRetry } from '../retries.ts'
import { headerMatch } from './matches.ts'
import { choose, count, jsonObject, ms, name, object } from './pieces.ts'

type ResetHeader = NonNullable<NativeRetry['resetBackOff']>['headers'][number]

export function retry(): z.ZodType<NativeRetry> {
  return object<NativeRetry>({
    on: z.array(z.enum([...RETRY_CONDITIONS, ...GRPC_RETRY_CONDITIONS])),
    retries: count().optional(),
    perTryTimeoutMs: ms().optional(),
    perTryIdleTimeoutMs: ms().optional(),
    statuses: z.array(z.number().int().min(100).max(599)).optional(),
    responseHeaders: z.array(headerMatch()).optional(),
    requestHeaders: z.array(headerMatch()).optional(),
    backOff: object<NonNullable<NativeRetry['backOff']>>({
      baseMs: ms().min(1).optional(),
      maxMs: ms().min(1).optional(),
    }).optional(),
    resetBackOff: object<NonNullable<NativeRetry['resetBackOff']>>({
      headers: z.array(resetHeader()).min(1),
      maxMs: ms().optional(),
    }).optional(),
    avoid: object<AvoidedHostsConfig>({
      previous: z.literal(true).optional(),
      canary: z.literal(true).optional(),
      labels: z.array(jsonObject()).optional(),
    }).optional(),
    selectionAttempts: count().optional(),
    otherPriorities: otherPriorities().optional(),
    otherClusters: z.boolean().optional(),
  })
}

function resetHeader(): z.ZodType<ResetHeader> {
  const formats: readonly ResetHeaderConfig['format'][] = ['seconds', 'unix-timestamp']
  return object<ResetHeader>({ name: name(), format: z.enum(formats).optional() })
}

function otherPriorities(): z.ZodType<boolean | number> {
  const [flag, frequency] = [z.boolean(), count(1)]
  return choose('true, false or a number of tries', (value) => (typeof value === 'number' ? frequency : flag))
}
