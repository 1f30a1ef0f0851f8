import type { RateLimitActionConfig } from './config.ts'

/** What native configurations tell requests apart by. Filters and routes that say the same mean the same entry. */
export type RateLimitBy =
  | { readonly header: string }
  | { readonly query: string }
  /** The client's address, or the network that it is in. */
  | { readonly client: 'address' | { readonly v4Bits?: number; readonly v6Bits?: number } }
  /** What a route says of itself. */
  | { readonly key: string }

/** The key of the entry. */
export function entryNameOf(by: RateLimitBy): string {
  if ('header' in by) return `header ${by.header.toLowerCase()}`
  if ('query' in by) return `query ${by.query}`
  if ('key' in by) return by.key
  return by.client === 'address' ? 'remote_address' : 'masked_remote_address'
}

/** What adds the entry to a descriptor; `value` is that of a `key`. */
export function actionOf(by: RateLimitBy, value: string): RateLimitActionConfig {
  const key = entryNameOf(by)
  if ('header' in by) return { kind: 'request-header', name: by.header.toLowerCase(), key, skipIfAbsent: false }
  if ('query' in by) return { kind: 'query-parameter', name: by.query, key, skipIfAbsent: false }
  if ('key' in by) return { kind: 'generic-key', key, value }
  if (by.client === 'address') return { kind: 'remote-address' }
  const { v4Bits = 32, v6Bits = 128 } = by.client
  return { kind: 'masked-remote-address', v4Bits, v6Bits }
}
