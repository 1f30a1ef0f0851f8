import { isIPv4 } from 'node:net'

/** Parts of PROXY headers of version 2, for tests to put together as they like. */

export const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')

export function tlv(type: number, value: Buffer | string): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([Buffer.from([type, bytes.length >> 8, bytes.length & 255]), bytes])
}

/** A header with that command, family and content; `length` lies about the content. */
export function header2(command: number, family: number, content: Buffer, length = content.length): Buffer {
  return Buffer.concat([SIGNATURE, Buffer.from([command, family, length >> 8, length & 255]), content])
}

export interface Ends {
  readonly source: string
  readonly sourcePort: number
  readonly destination: string
  readonly destinationPort: number
}

export const ENDS4: Ends = {
  source: '203.0.113.9',
  sourcePort: 51_000,
  destination: '198.51.100.2',
  destinationPort: 443,
}
export const ENDS6: Ends = {
  source: '2001:db8::9',
  sourcePort: 51_000,
  destination: '2001:db8::2',
  destinationPort: 443,
}

/** Addresses and ports; IPv6 by its eight groups or with one `::`. */
export function addresses(ends: Ends): Buffer {
  const ports = Buffer.alloc(4)
  ports.writeUInt16BE(ends.sourcePort, 0)
  ports.writeUInt16BE(ends.destinationPort, 2)
  return Buffer.concat([ip(ends.source), ip(ends.destination), ports])
}

function ip(text: string): Buffer {
  if (isIPv4(text)) return Buffer.from(text.split('.').map(Number))
  const [head, tail = ''] = text.split('::')
  const groups = (part: string): number[] => (part === '' ? [] : part.split(':').map((g) => Number.parseInt(g, 16)))
  const front = groups(head)
  const back = groups(tail)
  const all = [...front, ...new Array<number>(8 - front.length - back.length).fill(0), ...back]
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 255]))
}

/** A PROXY command over TCP, with TLVs behind the addresses. */
export function proxy2(ends: Ends = ENDS4, ...tlvs: readonly Buffer[]): Buffer {
  return header2(0x21, isIPv4(ends.source) ? 0x11 : 0x21, Buffer.concat([addresses(ends), ...tlvs]))
}

export function line({ source, destination, sourcePort, destinationPort }: Ends, family = 'TCP4'): Buffer {
  return Buffer.from(`PROXY ${family} ${source} ${destination} ${sourcePort} ${destinationPort}\r\n`, 'latin1')
}
