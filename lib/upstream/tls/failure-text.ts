import type { Refusal } from '../../tls/verify.ts'

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

const VERIFY_FAILED = '268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED'

/**
 * Why a server's certificate was refused, as Envoy's `%UPSTREAM_TRANSPORT_FAILURE_REASON%` has it: people search logs for
 * these words.
 */
export function refusalText(refusal: Refusal, verifyResult: string | undefined): string {
  const why = reasonOf(refusal, verifyResult)
  return `TLS_error:|${VERIFY_FAILED}:verify cert failed: ${why}:TLS_error_end`
}

function reasonOf(refusal: Refusal, verifyResult: string | undefined): string {
  switch (refusal) {
    case 'no-certificate':
      return 'no certificate'
    case 'host':
      return 'verify SAN list'
    case 'san':
      return 'SAN matcher'
    case 'untrusted': {
      const name = verifyResult ?? 'UNSPECIFIED'
      const words = VERIFY_RESULTS.get(name) ?? name.toLowerCase().replaceAll('_', ' ')
      return `X509_verify_cert: certificate verification error: ${words}`
    }
  }
}
