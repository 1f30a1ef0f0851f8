import { plainAddress, unicastOnly } from './addresses.ts'
import type { MalformedHeader, ProxyHeader } from './header.ts'

/** The longest line, CRLF included (the protocol's section 2.1). */
export const VERSION_1_BYTES = 107

/**
 * Reads what stands between `PROXY ` and CRLF: exactly `TCP4` or `TCP6`, two addresses of that family and two ports,
 * parted by single spaces; or `UNKNOWN`, behind which anything may stand and is ignored.
 */
export function parseVersion1(text: string, bytes: number): ProxyHeader | MalformedHeader {
  if (text === 'UNKNOWN' || text.startsWith('UNKNOWN ')) return { version: 1, bytes, addresses: undefined, tlvs: [] }
  const words = text.split(' ')
  const family = words[0] === 'TCP4' ? 4 : words[0] === 'TCP6' ? 6 : undefined
  if (family === undefined) return { malformed: 'it is for neither TCP4, TCP6 nor UNKNOWN' }
  if (words.length !== 5) return { malformed: 'it does not have two addresses and two ports' }
  const source = plainAddress(words[1], family)
  const destination = plainAddress(words[2], family)
  if (source === undefined || destination === undefined) return { malformed: `an address is not one of ${words[0]}` }
  const sourcePort = port(words[3])
  const destinationPort = port(words[4])
  if (sourcePort === undefined || destinationPort === undefined) return { malformed: 'a port is not a number to 65535' }
  const addresses = unicastOnly({ source, sourcePort, destination, destinationPort })
  if (addresses === undefined) return { malformed: 'an address is not unicast' }
  return { version: 1, bytes, addresses, tlvs: [] }
}

function port(text: string): number | undefined {
  return /^(?:0|[1-9][0-9]{0,4})$/.test(text) && Number(text) <= 65_535 ? Number(text) : undefined
}
