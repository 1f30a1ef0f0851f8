import { sign } from 'node:crypto'
import type { GrpcTargetConfig } from '../../../xds-client/config.ts'

/** What a token is dated back by: clocks differ. */
const SKEW_S = 30

/**
 * `authorization` for calls by a service account: a JWT that the account signs for the server itself (RS256), flat as in
 * `Headers.raw`; nothing where the target has no account. Made for each client, which is made for each connection; signed in
 * place, since whoever connects does not wait.
 *
 * @param nowMs epoch
 */
export function serviceAccountMetadata(
  { serviceAccount, authority, cluster }: GrpcTargetConfig,
  nowMs: number,
): string[] {
  if (serviceAccount === undefined) return []
  const { email, keyId, privateKey, lifetimeS } = serviceAccount
  const iat = Math.floor(nowMs / 1000) - SKEW_S
  // The host alone: Google's library leaves the service out as well.
  const host = (authority === '' ? cluster : authority).replace(/:443$/, '')
  const claims = { iss: email, sub: email, aud: `https://${host}/`, iat, exp: iat + lifetimeS }
  const text = `${encode({ alg: 'RS256', typ: 'JWT', kid: keyId })}.${encode(claims)}`
  return ['authorization', `Bearer ${text}.${sign('RSA-SHA256', Buffer.from(text), privateKey).toString('base64url')}`]
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url')
}
