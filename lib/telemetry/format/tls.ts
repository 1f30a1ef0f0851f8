import type { TlsPeer } from '../../core/connection.ts'
import { type Command, plainCommand } from './operator.ts'

/** Facts of the downstream TLS session; certificates only where they were verified. */
export const TLS_COMMANDS: readonly Command[] = Object.freeze([
  plainCommand('DOWNSTREAM_TLS_VERSION', 'TLSv1.2 or TLSv1.3', ({ connection }) => connection.tls?.version),
  plainCommand(
    'DOWNSTREAM_TLS_CIPHER',
    "OpenSSL's name of the cipher suite",
    ({ connection }) => connection.tls?.cipher,
  ),
  plainCommand('DOWNSTREAM_TLS_GROUP', 'group of the key agreement', ({ connection }) => connection.tls?.group),
  peerCommand('DOWNSTREAM_PEER_SUBJECT', "subject of the client's certificate", (peer) => peer.subject),
  peerCommand('DOWNSTREAM_PEER_URI_SAN', 'its URIs, joined with commas', (peer) => peer.uriSans.join(',')),
  peerCommand('DOWNSTREAM_PEER_DNS_SAN', 'its DNS names, joined with commas', (peer) => peer.dnsSans.join(',')),
  peerCommand('DOWNSTREAM_PEER_FINGERPRINT_256', 'its SHA-256 fingerprint, in hex', (peer) => peer.sha256),
])

function peerCommand(name: string, meaning: string, read: (peer: TlsPeer) => string): Command {
  return plainCommand(
    name,
    meaning,
    ({ connection }) => {
      const peer = connection.tls?.peer
      return peer === undefined ? undefined : read(peer) || undefined
    },
    'text',
  )
}
