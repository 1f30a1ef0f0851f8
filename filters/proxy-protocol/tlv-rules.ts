import { isUtf8 } from 'node:buffer'
import type { ConnectionInfo, ProxyTlv } from '../../lib/core/connection.ts'
import type { Json, JsonObject } from '../../lib/core/errors.ts'
import type { ProxyProtocolConfig, TlvRule } from './config.ts'

/** Where filter state holds the values, by the keys of the rules. */
const FILTER_STATE_KEY = 'envoy.network.proxy_protocol.tlv'
const TYPED = 'type.googleapis.com/envoy.data.core.v3.TlvsMetadata'

type Apply = (tlvs: readonly ProxyTlv[], facts: ConnectionInfo) => void

/** Compiles rules to a function that leaves the values of TLVs in the connection's state. */
export function compileTlvRules({ rules, location }: ProxyProtocolConfig): Apply {
  if (rules.length === 0) return () => {}
  const byType = new Map(rules.map((rule) => [rule.type, rule]))
  const leave = location === 'metadata' ? leaveInMetadata : leaveInFilterState
  return (tlvs, facts) => {
    for (const { type, value } of tlvs) {
      const rule = byType.get(type)
      if (rule !== undefined) leave(rule, value, facts)
    }
  }
}

/** As text under the namespace's key, and as bytes in its typed form. Of several for a key the first counts, as in Envoy. */
function leaveInMetadata(rule: TlvRule, value: Uint8Array, { state }: ConnectionInfo): void {
  const { namespace, key } = rule
  if (Object.hasOwn(asObject(state.metadata(namespace)), key)) return
  state.mergeMetadata(namespace, { [key]: textOf(rule, value) })
  const bytes = asObject(state.typedMetadata(namespace)?.typed_metadata)
  state.setTypedMetadata(namespace, { '@type': TYPED, typed_metadata: { ...bytes, [key]: base64(value) } })
}

function leaveInFilterState(rule: TlvRule, value: Uint8Array, { state }: ConnectionInfo): void {
  const values = (state.object(FILTER_STATE_KEY) ?? {}) as { readonly [key: string]: string }
  if (Object.hasOwn(values, rule.key)) return
  state.setObject(FILTER_STATE_KEY, Object.freeze({ __proto__: null, ...values, [rule.key]: textOf(rule, value) }))
}

function asObject(value: Json | undefined): JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {}
}

function textOf(rule: TlvRule, value: Uint8Array): string {
  return rule.base64 ? base64(value) : sanitizeUtf8(value)
}

function base64(value: Uint8Array): string {
  return Buffer.from(value.buffer, value.byteOffset, value.length).toString('base64')
}

/** Each byte that is no part of a character becomes `!`, as in Envoy. */
export function sanitizeUtf8(value: Uint8Array): string {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.length)
  if (isUtf8(bytes)) return bytes.toString('utf8')
  let text = ''
  for (let at = 0; at < bytes.length; ) {
    const character = bytes.subarray(at, at + characterBytes(bytes[at]))
    const valid = isUtf8(character)
    text += valid ? character.toString('utf8') : '!'
    at += valid ? character.length : 1
  }
  return text
}

function characterBytes(lead: number): number {
  if (lead < 0xc0) return 1
  if (lead < 0xe0) return 2
  return lead < 0xf0 ? 3 : 4
}
