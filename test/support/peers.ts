import { type ConnectionInfo, plainConnection, type TlsInfo, type TlsPeer } from '../../lib/core/connection.ts'

/** A verified client certificate; what is not given is plain. */
export function peer(known: Partial<TlsPeer> = {}): TlsPeer {
  return {
    subject: 'CN=client,O=Example',
    issuer: 'CN=Example CA',
    serial: '1f',
    uriSans: [],
    dnsSans: [],
    emailSans: [],
    ipSans: [],
    sha256: 'ab'.repeat(32),
    sha1: 'cd'.repeat(20),
    validFromMs: Date.UTC(2024, 0, 1),
    validToMs: Date.UTC(2025, 0, 1),
    pem: '-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n',
    chainPem: '-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n',
    ...known,
  }
}

/** A TLS session without a client certificate, unless one is given. */
export function tlsInfo(known: Partial<TlsInfo> = {}): TlsInfo {
  return {
    version: 'TLSv1.3',
    cipher: 'TLS_AES_128_GCM_SHA256',
    group: 'X25519MLKEM768',
    serverName: undefined,
    alpn: undefined,
    peer: undefined,
    peerUnverified: false,
    local: undefined,
    sessionId: '',
    ...known,
  }
}

/** A connection from 203.0.113.7 to 192.0.2.1:443. */
export function connection(known: Partial<ConnectionInfo> = {}): ConnectionInfo {
  const plain = plainConnection({
    id: 1,
    remoteAddress: '203.0.113.7',
    remotePort: 50_000,
    localAddress: '192.0.2.1',
    localPort: 443,
    kind: 'ip',
    listenerName: 'l',
  })
  return { ...plain, ...known }
}
