import { z } from 'zod'
import type { HashPolicyConfig } from '../../../core/hash-policy.ts'
import type { RegexRewriteConfig } from '../../../router/config.ts'
import { byKind, count, name, object, text } from './pieces.ts'

/** What requests are hashed by. */
export function hashPolicy(): z.ZodType<HashPolicyConfig> {
  const terminal = z.literal(true).optional()
  return byKind<HashPolicyConfig>({
    header: () => object({ kind: z.literal('header'), name: name(), rewrite: regexRewrite().optional(), terminal }),
    cookie: () =>
      object({
        kind: z.literal('cookie'),
        name: name(),
        ttlS: count().optional(),
        path: text().optional(),
        attributes: z.array(object<{ name: string; value: string }>({ name: name(), value: text() })).optional(),
        terminal,
      }),
    'source-ip': () => object({ kind: z.literal('source-ip'), terminal }),
    'query-parameter': () => object({ kind: z.literal('query-parameter'), name: name(), terminal }),
    'filter-state': () => object({ kind: z.literal('filter-state'), key: name(), terminal }),
  })
}

/** A substitution of all occurrences. */
export function regexRewrite(): z.ZodType<RegexRewriteConfig> {
  return object<RegexRewriteConfig>({ regex: name(), substitution: text() })
}
