import { z } from 'zod'
import { isObject } from '../../../proto/describe.ts'
import type {
  NativeBytes,
  NativeCertificate,
  NativeCertificateValidation,
  NativeDownstreamTls,
  NativeKeyLog,
  NativePem,
  NativePemCertificate,
  NativePkcs12,
  NativeSanMatch,
  NativeUpstreamTls,
} from '../tls.ts'
import { cidr, stringMatch } from './matches.ts'
import { choose, count, dictionary, ms, name, object } from './pieces.ts'

export function pem(): z.ZodType<NativePem> {
  return textOrFile('PEM text or an object with file')
}

function bytes(): z.ZodType<NativeBytes> {
  return textOrFile('base64 or an object with file')
}

function textOrFile(what: string): z.ZodType<NativePem> {
  const text = name()
  const file = object<Exclude<NativePem, string>>({ file: name() })
  return choose(what, (value) => (typeof value === 'string' ? text : isObject(value) ? file : undefined))
}

export function certificate(): z.ZodType<NativeCertificate> {
  const more = { passphrase: z.string().optional(), ocspStaple: bytes().optional() }
  const inPem = object<NativePemCertificate>({ certificateChain: pem(), privateKey: pem(), ...more })
  const inPkcs12 = object<NativePkcs12>({ pkcs12: bytes(), ...more })
  return choose('a certificate', (value) =>
    isObject(value) ? (Object.hasOwn(value, 'pkcs12') ? inPkcs12 : inPem) : undefined,
  )
}

function validation(): z.ZodType<NativeCertificateValidation> {
  const type = z.enum(['dns', 'uri', 'email', 'ip', 'other'])
  const san = object<NativeSanMatch>({ type, oid: name().optional(), match: stringMatch() })
  return object<NativeCertificateValidation>({
    trustedCa: pem().optional(),
    systemRoots: z.boolean().optional(),
    sans: z.array(san).optional(),
    acceptUntrusted: z.boolean().optional(),
    crl: pem().optional(),
    leafCrlOnly: z.boolean().optional(),
    hashes: z.array(name()).optional(),
    spkis: z.array(name()).optional(),
    maxDepth: count().optional(),
    allowExpired: z.boolean().optional(),
    trustDomains: dictionary(pem()).optional(),
  })
}

function protocols() {
  const version = z.enum(['TLSv1.2', 'TLSv1.3']).optional()
  const names = z.array(name()).optional()
  const ranges = z.array(cidr()).optional()
  return {
    alpn: names,
    minVersion: version,
    maxVersion: version,
    cipherSuites: names,
    groups: names,
    signatureAlgorithms: names,
    keyLog: object<NativeKeyLog>({ path: name(), localRanges: ranges, remoteRanges: ranges }).optional(),
  }
}

export function downstreamTls(): z.ZodType<NativeDownstreamTls> {
  return object<NativeDownstreamTls>({
    certificates: z.array(certificate()).min(1),
    ...protocols(),
    validation: validation().optional(),
    requireClientCertificate: z.boolean().optional(),
    handshakeTimeoutMs: ms().min(1).optional(),
    sessionTickets: z.boolean().optional(),
    ticketKeys: z.array(bytes()).min(1).optional(),
    sessionTimeoutS: count().min(1).optional(),
    requireSni: z.boolean().optional(),
    fullScan: z.boolean().optional(),
    preferClientCiphers: z.boolean().optional(),
    ocspPolicy: z.enum(['lenient', 'strict', 'must']).optional(),
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
