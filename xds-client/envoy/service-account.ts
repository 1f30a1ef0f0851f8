import { createPrivateKey } from 'node:crypto'
import type { Json } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type { ServiceAccountConfig } from '../config.ts'

/** As in Google's library. */
const LONGEST_S = 3600

/** `ServiceAccountJWTAccessCredentials`: a key file of a service account, its content; undefined where it is none. */
export function translateServiceAccount(reader: FieldReader | undefined): ServiceAccountConfig | undefined {
  if (reader === undefined) return undefined
  reader.unread('refuse')
  const lifetimeS = Math.min(LONGEST_S, reader.number('token_lifetime_seconds') || LONGEST_S)
  const key = parse(reader.string('json_key'))
  if (typeof key !== 'object' || key === null || Array.isArray(key)) {
    reader.error('json_key', 'is no JSON object')
    return undefined
  }
  const [email, keyId, privateKey] = [key.client_email, key.private_key_id, key.private_key]
  if (typeof email !== 'string' || typeof keyId !== 'string' || typeof privateKey !== 'string') {
    reader.error('json_key', 'must have client_email, private_key_id and private_key')
    return undefined
  }
  try {
    if (createPrivateKey(privateKey).asymmetricKeyType === 'rsa') return { email, keyId, privateKey, lifetimeS }
    reader.error('json_key', 'its private_key must be one of RSA')
  } catch {
    // What the reason quotes may be the key.
    reader.error('json_key', 'its private_key cannot be read')
  }
  return undefined
}

function parse(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json
  } catch {
    return undefined
  }
}
