import { type TlsInfo, type TlsPeer, verifiedPeer } from '../../core/connection.ts'
import { chainFacts } from './certificate-chain.ts'
import { type Command, type LogStream, plainCommand, type Read } from './operator.ts'
import { compileTime } from './time.ts'

/** When nothing else is asked for. */
const DEFAULT_TIME = '%Y-%m-%dT%H:%M:%E3SZ'

/** One side's session, and who its peer was verified to be. */
interface Side {
  readonly prefix: 'DOWNSTREAM' | 'UPSTREAM'
  /** Whose certificate it is, in prose. */
  readonly owner: string
  session(stream: LogStream): TlsInfo | undefined
  peer(stream: LogStream): TlsPeer | undefined
}

const downstream: Side = {
  prefix: 'DOWNSTREAM',
  owner: "the client's",
  session: ({ connection }) => connection.tls,
  peer: ({ connection }) => verifiedPeer(connection),
}

const upstream: Side = {
  prefix: 'UPSTREAM',
  owner: "the endpoint's",
  session: ({ info }) => info.upstreamTls,
  peer: ({ info }) => info.upstreamTls?.peer,
}

/** Facts of TLS sessions; certificates of peers only where they were verified. */
export const TLS_COMMANDS: readonly Command[] = Object.freeze([
  ...sessionCommands(downstream),
  ...peerCommands(downstream),
  peer(downstream, 'EMAIL_SAN', 'its e-mail addresses, joined with commas', ({ emailSans }) => emailSans.join(',')),
  peer(downstream, 'SERIAL', 'its serial number, in hex', ({ serial }) => serial),
  peer(downstream, 'FINGERPRINT_256', 'its SHA-256 fingerprint, in hex', ({ sha256 }) => sha256),
  peer(downstream, 'FINGERPRINT_1', 'its SHA-1 fingerprint, in hex', ({ sha1 }) => sha1),
  ...chainCommands(),
  ...localCommands(downstream),
  ...sessionCommands(upstream),
  plainCommand(
    'UPSTREAM_SERVER_NAME',
    'the server name asked for (SNI)',
    ({ info }) => info.upstreamTls?.serverName,
    'text',
  ),
  ...peerCommands(upstream),
  ...localCommands(upstream),
  plainCommand(
    'TLS_JA3_FINGERPRINT',
    'JA3 of the hello, where an inspector makes it',
    ({ connection }) => connection.ja3,
  ),
  plainCommand(
    'TLS_JA4_FINGERPRINT',
    'JA4 of the hello, where an inspector makes it',
    ({ connection }) => connection.ja4,
  ),
])

function sessionCommands({ prefix, session }: Side): Command[] {
  return [
    plainCommand(`${prefix}_TLS_VERSION`, 'TLSv1.2 or TLSv1.3', (stream) => session(stream)?.version),
    plainCommand(`${prefix}_TLS_CIPHER`, "OpenSSL's name of the cipher suite", (stream) => session(stream)?.cipher),
    plainCommand(`${prefix}_TLS_GROUP`, 'group of the key agreement', (stream) => session(stream)?.group),
    plainCommand(
      `${prefix}_TLS_SESSION_ID`,
      'id of the session, in hex',
      (stream) => session(stream)?.sessionId || undefined,
    ),
  ]
}

function peerCommands(side: Side): Command[] {
  return [
    peer(side, 'SUBJECT', `subject of ${side.owner} certificate (RFC 2253)`, ({ subject }) => subject),
    peer(side, 'ISSUER', 'its issuer', ({ issuer }) => issuer),
    peer(side, 'URI_SAN', 'its URIs, joined with commas', ({ uriSans }) => uriSans.join(',')),
    peer(side, 'DNS_SAN', 'its DNS names, joined with commas', ({ dnsSans }) => dnsSans.join(',')),
    peer(side, 'IP_SAN', 'its IP addresses, joined with commas', ({ ipSans }) => ipSans.join(',')),
    peer(side, 'CERT', 'the certificate itself: PEM, URL-encoded', ({ pem }) => encodeURIComponent(pem)),
    validity(side, 'CERT_V_START', 'from when it is valid', ({ validFromMs }) => validFromMs),
    validity(side, 'CERT_V_END', 'until when it is valid', ({ validToMs }) => validToMs),
  ]
}

function peer(side: Side, name: string, meaning: string, read: (peer: TlsPeer) => string): Command {
  const of = side.peer
  return plainCommand(
    `${side.prefix}_PEER_${name}`,
    meaning,
    (stream) => {
      const known = of(stream)
      return known === undefined ? undefined : read(known) || undefined
    },
    'text',
  )
}

function validity(side: Side, name: string, meaning: string, read: (peer: TlsPeer) => number): Command {
  const of = side.peer
  return {
    name: `${side.prefix}_PEER_${name}`,
    argument: '(FORMAT)',
    needs: 'optional',
    length: 'refused',
    origin: 'text',
    meaning: `${meaning}, UTC; a strftime format`,
    compile(argument, context): Read {
      const render = compileTime(argument || DEFAULT_TIME, 'utc', (message) => context.fail(message))
      return (stream) => {
        const known = of(stream)
        return known === undefined ? undefined : render(read(known))
      }
    },
  }
}

/** What is known of the certificates above the client's. */
function chainCommands(): Command[] {
  const all = (name: string, meaning: string, read: (facts: ReturnType<typeof chainFacts>) => string): Command =>
    peer(downstream, name, meaning, ({ chainPem }) => read(chainFacts(chainPem)))
  return [
    all('CHAIN_FINGERPRINTS_256', 'SHA-256 of all certificates it came with, itself first', (chain) =>
      chain.map(({ sha256 }) => sha256).join(','),
    ),
    all('CHAIN_FINGERPRINTS_1', 'the same by SHA-1', (chain) => chain.map(({ sha1 }) => sha1).join(',')),
    all('CHAIN_SERIALS', 'their serial numbers', (chain) => chain.map(({ serial }) => serial).join(',')),
    all('ISSUER_FINGERPRINT_256', 'SHA-256 of the first above it', (chain) => chain[1]?.sha256 ?? ''),
    all('ISSUER_SERIAL', 'its serial number', (chain) => chain[1]?.serial ?? ''),
  ]
}

function localCommands({ prefix, session }: Side): Command[] {
  const local = (name: string, meaning: string, read: (own: NonNullable<TlsInfo['local']>) => string): Command =>
    plainCommand(
      `${prefix}_LOCAL_${name}`,
      meaning,
      (stream) => {
        const own = session(stream)?.local
        return own === undefined ? undefined : read(own) || undefined
      },
      'text',
    )
  const names = [
    local('URI_SAN', 'URIs of our own certificate, joined with commas', ({ uriSans }) => uriSans.join(',')),
    local('DNS_SAN', 'its DNS names, joined with commas', ({ dnsSans }) => dnsSans.join(',')),
  ]
  if (prefix === 'UPSTREAM') return names
  return [local('SUBJECT', 'subject of our own certificate', ({ subject }) => subject), ...names]
}
