import type { Refusal } from './verify.ts'

/** OpenSSL's words for its results, where Node hands on their names alone. */
const VERIFY_RESULTS: ReadonlyMap<string, string> = new Map([
  ['CERT_CHAIN_TOO_LONG', 'certificate chain too long'],
  ['CERT_HAS_EXPIRED', 'certificate has expired'],
  ['CERT_NOT_YET_VALID', 'certificate is not yet valid'],
  ['CERT_REVOKED', 'certificate revoked'],
  ['CERT_SIGNATURE_FAILURE', 'certificate signature failure'],
  ['CERT_UNTRUSTED', 'certificate not trusted'],
  ['CRL_HAS_EXPIRED', 'CRL has expired'],
  ['DEPTH_ZERO_SELF_SIGNED_CERT', 'self-signed certificate'],
  ['INVALID_CA', 'invalid CA certificate'],
  ['INVALID_PURPOSE', 'unsupported certificate purpose'],
  ['SELF_SIGNED_CERT_IN_CHAIN', 'self-signed certificate in certificate chain'],
  ['UNABLE_TO_GET_CRL', 'unable to get certificate CRL'],
  ['UNABLE_TO_GET_ISSUER_CERT', 'unable to get issuer certificate'],
  ['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'unable to get local issuer certificate'],
  ['UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'unable to verify the first certificate'],
])

/** Of connections that were refused because a secret had not come; Envoy's words. */
export const NOT_READY_TEXT = 'TLS error: Secret is not supplied by SDS'

/** BoringSSL's codes. */
const NO_CERTIFICATE = 268_435_648
const VERIFY_FAILED = 268_435_581

/**
 * Why a peer's certificate was refused, as Envoy's `%UPSTREAM_TRANSPORT_FAILURE_REASON%` has it: people search logs for
 * these words.
 */
export function refusalText(refusal: Refusal, verifyResult: string | undefined): string {
  if (refusal === 'no-certificate') return transportError(NO_CERTIFICATE, 'PEER_DID_NOT_RETURN_A_CERTIFICATE')
  const why = reasonOf(refusal, verifyResult)
  return transportError(VERIFY_FAILED, `CERTIFICATE_VERIFY_FAILED:verify cert failed: ${why}`)
}

/** Why a handshake broke off, in the same form: with OpenSSL's code where Envoy has BoringSSL's. */
export function handshakeText(error: Error): string {
  const { reason, message } = error as Error & { readonly reason?: string }
  const code = /error:([0-9A-F]{8}):/.exec(message)
  if (reason === undefined || code === null) return message
  return transportError(Number.parseInt(code[1], 16), reason.toUpperCase().replaceAll(' ', '_'))
}

/** An error of a library, as Envoy prints them. */
export function transportError(code: number, words: string): string {
  return `TLS_error:|${code}:SSL routines:OPENSSL_internal:${words}:TLS_error_end`
}

function reasonOf(refusal: Exclude<Refusal, 'no-certificate'>, verifyResult: string | undefined): string {
  switch (refusal) {
    case 'host':
      return 'verify SAN list'
    case 'san':
      return 'SAN matcher'
    case 'pin':
      return 'cert hash and spki'
    case 'untrusted': {
      const name = verifyResult ?? 'UNSPECIFIED'
      const words = VERIFY_RESULTS.get(name) ?? name.toLowerCase().replaceAll('_', ' ')
      return `X509_verify_cert: certificate verification error: ${words}`
    }
  }
}
