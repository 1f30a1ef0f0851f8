/** Code points of the IANA registry "TLS Supported Groups", under the names that Envoy's statistics use. */
const GROUPS: ReadonlyMap<number, string> = new Map([
  [0x0017, 'P-256'],
  [0x0018, 'P-384'],
  [0x0019, 'P-521'],
  [0x001d, 'X25519'],
  [0x001e, 'X448'],
  [0x0100, 'ffdhe2048'],
  [0x0101, 'ffdhe3072'],
  [0x0200, 'MLKEM512'],
  [0x0201, 'MLKEM768'],
  [0x0202, 'MLKEM1024'],
  [0x11eb, 'SecP256r1MLKEM768'],
  [0x11ec, 'X25519MLKEM768'],
  [0x11ed, 'SecP384r1MLKEM1024'],
])

/** The context tag [19] of OpenSSL's SSL_SESSION: the group of the key exchange. */
const KEX_GROUP_TAG = 0xb3

/**
 * The key exchange group that a session was made with, from its serialised form (`TLSSocket.getSession()`): the only
 * place where a server can learn it. OpenSSL does not promise that form: undefined wherever it is not as expected.
 */
export function sessionGroup(session: Buffer | undefined): string | undefined {
  if (session === undefined) return undefined
  const outer = element(session, 0)
  if (outer === undefined || outer.tag !== 0x30) return undefined
  for (let at = outer.from; at < outer.to; ) {
    const item = element(session, at)
    if (item === undefined) return undefined
    if (item.tag === KEX_GROUP_TAG) return groupOf(session, item.from)
    at = item.to
  }
  return undefined
}

/** The session's identifier, hexadecimal; '' where it has none. From the same form as `sessionGroup`, as careful. */
export function sessionId(session: Buffer | undefined): string {
  const outer = session && element(session, 0)
  if (session === undefined || outer?.tag !== 0x30) return ''
  let at = outer.from
  // Version of the form, protocol version, cipher suite; then it.
  for (const tag of [0x02, 0x02, 0x04]) {
    const item = element(session, at)
    if (item?.tag !== tag) return ''
    at = item.to
  }
  const id = element(session, at)
  return id?.tag === 0x04 ? session.toString('hex', id.from, id.to) : ''
}

function groupOf(bytes: Buffer, at: number): string | undefined {
  const integer = element(bytes, at)
  if (integer === undefined || integer.tag !== 0x02 || integer.to === integer.from || integer.to - integer.from > 4)
    return undefined
  return GROUPS.get(bytes.readUIntBE(integer.from, integer.to - integer.from))
}

/** One DER element: its tag and where its content lies. Lengths of up to three bytes; tags of one. */
function element(bytes: Buffer, at: number): { tag: number; from: number; to: number } | undefined {
  if (at + 2 > bytes.length) return undefined
  const first = bytes[at + 1]
  const more = first < 0x80 ? 0 : first & 0x7f
  if (more > 3 || first === 0x80 || at + 2 + more > bytes.length) return undefined
  const length = more === 0 ? first : bytes.readUIntBE(at + 2, more)
  const from = at + 2 + more
  return from + length > bytes.length ? undefined : { tag: bytes[at], from, to: from + length }
}
