import type { Headers } from '../core/headers.ts'

/**
 * Metadata is a `Headers`: ASCII values are read and written with its own methods, values of names that end in `-bin`
 * with these two.
 */

/**
 * The values of a binary field in their order: base64 with or without padding, several in one field after commas
 * (PROTOCOL-HTTP2.md, "Custom-Metadata"). Values that are no base64 are left out.
 *
 * @param name lower-case, ends in `-bin`
 */
export function binaryMetadata(metadata: Headers, name: string): Buffer[] {
  const out: Buffer[] = []
  for (const field of metadata.getAll(name)) {
    for (const value of field.split(',')) {
      const text = value.trim()
      if (BASE64.test(text) && text.length % 4 !== 1) out.push(Buffer.from(text, 'base64'))
    }
  }
  return out
}

const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/

/**
 * Adds a binary field, encoded without padding, as the protocol asks of senders.
 *
 * @param name lower-case, ends in `-bin`
 * @throws TypeError for a name that does not
 */
export function appendBinaryMetadata(metadata: Headers, name: string, value: Uint8Array): void {
  if (!name.endsWith('-bin')) throw new TypeError(`"${name}" is no name of binary metadata: it must end in -bin`)
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.byteLength)
  metadata.append(name, bytes.toString('base64').replace(/=+$/, ''))
}

/** Fields that belong to the protocol, not to metadata: what a caller says of them is left out. */
export function isProtocolField(name: string): boolean {
  switch (name) {
    case 'te':
    case 'host':
    case 'connection':
    case 'content-length':
    case 'content-type':
    case 'keep-alive':
    case 'proxy-connection':
    case 'transfer-encoding':
    case 'upgrade':
    case 'grpc-timeout':
    case 'grpc-encoding':
    case 'grpc-accept-encoding':
    case 'grpc-status':
    case 'grpc-message':
    case 'grpc-status-details-bin':
      return true
    default:
      return false
  }
}
