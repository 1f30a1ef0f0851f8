import { z } from 'zod'
import { isObject } from '../../../proto/describe.ts'
import type { NativeForwardProxy, NativeOriginalDst } from '../cluster-types.ts'
import type { NativeCidr } from '../matches.ts'
import { balancer } from './balancers.ts'
import { cidr } from './matches.ts'
import { choose, count, metadataPath, ms, name, object } from './pieces.ts'

function addresses(): z.ZodType<NonNullable<NativeForwardProxy['addresses']>> {
  const word = z.enum(['public', 'any'])
  const ranges = z.array(cidr())
  const deny = object<{ deny: readonly NativeCidr[] }>({ deny: ranges })
  const allow = object<{ allow: readonly NativeCidr[] }>({ allow: ranges })
  return choose('"public", "any", or an object with deny or allow', (value) => {
    if (typeof value === 'string') return word
    return isObject(value) ? ('allow' in value ? allow : deny) : undefined
  })
}

export function forwardProxy(): z.ZodType<NativeForwardProxy> {
  return object<NativeForwardProxy>({
    hostTtlMs: ms().min(1).optional(),
    maxHosts: count(1).optional(),
    maxPending: count(1).optional(),
    preresolve: z.array(name()).optional(),
    addresses: addresses().optional(),
    store: object<NonNullable<NativeForwardProxy['store']>>({
      path: name(),
      flushMs: ms().optional(),
      maxEntries: count(1).optional(),
    }).optional(),
    balanceWithin: balancer().optional(),
  })
}

export function originalDst(): z.ZodType<NativeOriginalDst> {
  return object<NativeOriginalDst>({
    header: name().optional(),
    metadata: object<NonNullable<NativeOriginalDst['metadata']>>({
      namespace: name(),
      path: metadataPath(),
    }).optional(),
    port: z.number().int().min(1).max(65_535).optional(),
    cleanupMs: ms().min(1).optional(),
  })
}
