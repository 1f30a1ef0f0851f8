/** Extensions of a ClientHello that carry what a server gave for resumption (RFC 5077 §3.2, RFC 8446 §4.2.11). */
const SESSION_TICKET = 35
const PRE_SHARED_KEY = 41

/** With a ticket of OpenSSL's: the name of the key that it is locked with. */
const NAME_BYTES = 16

/** After the header of the message: version and random. */
const SESSION_ID_AT = 4 + 34

/**
 * The name of the key that the ticket in a ClientHello was made with, hexadecimal; undefined where there is no ticket.
 * Of several only the first counts. `message`: the handshake message, which the reader of hellos has found in order.
 */
export function helloTicketKey(message: Buffer): string | undefined {
  let at = SESSION_ID_AT
  at += 1 + message[at]
  at += 2 + message.readUInt16BE(at)
  at += 1 + message[at]
  if (at + 2 > message.length) return undefined
  at += 2
  while (at + 4 <= message.length) {
    const type = message.readUInt16BE(at)
    const length = message.readUInt16BE(at + 2)
    at += 4
    if (type === SESSION_TICKET && length > NAME_BYTES) return nameAt(message, at)
    // The list of identities and the length of the first stand before it.
    if (type === PRE_SHARED_KEY && length > 4 + NAME_BYTES) return nameAt(message, at + 4)
    at += length
  }
  return undefined
}

function nameAt(message: Buffer, at: number): string | undefined {
  return at + NAME_BYTES > message.length ? undefined : message.toString('hex', at, at + NAME_BYTES)
}
