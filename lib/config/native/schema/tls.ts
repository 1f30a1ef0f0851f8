import { z } from 'zod'
import { isObject } from '../../../proto/describe.ts'
import type {
  NativeCertificate,
  NativeCertificateValidation,
  NativeDownstreamTls,
  NativePem,
  NativeSanMatch,
  NativeUpstreamTls,
} from '../tls.ts'
import { stringMatch } from './matches.ts'
import { choose, count, ms, name, object } from './pieces.ts'

function pem(): z.ZodType<NativePem> {
  const text = name()
  const file = object<Exclude<NativePem, string>>({ file: name() })
  return choose('PEM text or an object with file', (value) =>
    typeof value === 'string' ? text : isObject(value) ? file : undefined,
  )
}

function certificate(): z.ZodType<NativeCertificate> {
  return object<NativeCertificate>({ certificateChain: pem(), privateKey: pem(), passphrase: z.string().optional() })
}

function validation(): z.ZodType<NativeCertificateValidation> {
  const san = object<NativeSanMatch>({ type: z.enum(['dns', 'uri', 'email', 'ip']), match: stringMatch() })
  return object<NativeCertificateValidation>({
    trustedCa: pem().optional(),
    systemRoots: z.boolean().optional(),
    sans: z.array(san).optional(),
    acceptUntrusted: z.boolean().optional(),
    crl: pem().optional(),
  })
}

function protocols() {
  const version = z.enum(['TLSv1.2', 'TLSv1.3']).optional()
  const names = z.array(name()).optional()
  return { alpn: names, minVersion: version, maxVersion: version, cipherSuites: names, groups: names }
}

export function downstreamTls(): z.ZodType<NativeDownstreamTls> {
  return object<NativeDownstreamTls>({
    certificates: z.array(certificate()).min(1),
    ...protocols(),
    validation: validation().optional(),
    requireClientCertificate: z.boolean().optional(),
    handshakeTimeoutMs: ms().min(1).optional(),
    sessionTickets: z.boolean().optional(),
  })
}

export function upstreamTls(): z.ZodType<NativeUpstreamTls> {
  return object<NativeUpstreamTls>({
    certificate: certificate().optional(),
    ...protocols(),
    validation: validation().optional(),
    sni: z.string().max(255).optional(),
    autoSni: z.enum(['none', 'host', 'authority']).optional(),
    autoSanValidation: z.boolean().optional(),
    maxSessionKeys: count().optional(),
  })
}
