import { isIP, isIPv4, isIPv6 } from 'node:net'
import { canonicalIp } from '../core/address.ts'
import type { ConnectionInfo, ProxyTlv } from '../core/connection.ts'
import { type AddedTlvs, compileAddedTlvs } from './added-tlvs.ts'
import type { AddedTlvConfig, ProxyProtocolLayerConfig } from './config.ts'

/** The addresses and what else a header says of a connection. */
export interface ProxyFacts {
  readonly remoteAddress: string
  readonly remotePort: number
  readonly localAddress: string
  readonly localPort: number
}

const SIGNATURE = Buffer.from([0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a])
/** The length field has 16 bits. */
const MAX_BYTES = 0xffff
const NOOP = 0x04
const CRC32C = 0x03

/**
 * Writes the headers of one cluster's connections (the PROXY protocol of HAProxy, versions 1 and 2). Where there is no
 * client, it says so: LOCAL, or UNKNOWN in version 1. Where its addresses are not IP addresses (Unix sockets, internal
 * listeners) they are left out: UNSPEC, or UNKNOWN.
 */
export class ProxyHeaderWriter {
  readonly #config: ProxyProtocolLayerConfig
  readonly #added: AddedTlvs
  /** One of them is made of each connection. */
  readonly #varies: boolean
  readonly #passed: ReadonlySet<number>

  constructor(config: ProxyProtocolLayerConfig) {
    this.#config = config
    this.#added = compileAddedTlvs(config.addedTlvs)
    this.#varies = config.addedTlvs.some(({ format }) => format !== undefined)
    this.#passed = new Set(typeof config.passTlvs === 'string' ? [] : config.passTlvs)
  }

  /** What tells the headers of two clients apart: connections with different ones must not be shared. */
  key(downstream: ConnectionInfo): string {
    const { remoteAddress, remotePort, localAddress, localPort } = downstream
    let key = `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`
    const added = this.#added(downstream)
    const passed = this.#passedTlvs(downstream, added)
    for (const { type, value } of this.#varies ? [...added, ...passed] : passed)
      key += ` ${type} ${Buffer.from(value).toString('base64')}`
    return key
  }

  /** @param hostTlvs of the endpoint: they take the place of the layer's own of the same type */
  header(downstream: ConnectionInfo | undefined, hostTlvs?: readonly AddedTlvConfig[]): Buffer {
    if (this.#config.version === 1) return Buffer.from(textHeader(downstream), 'latin1')
    if (downstream === undefined) return binaryHeader(0x20, undefined, [])
    const added = this.#addedFor(downstream, hostTlvs)
    return binaryHeader(0x21, downstream, fitting([...added, ...this.#passedTlvs(downstream, added)]))
  }

  /** Of the client's header, by configuration; checksums are of the header they came in, and padding says nothing. */
  #passedTlvs({ proxyProtocol }: ConnectionInfo, added: readonly ProxyTlv[]): readonly ProxyTlv[] {
    const { passTlvs, version } = this.#config
    if (passTlvs === 'none' || version === 1 || proxyProtocol === undefined) return []
    return proxyProtocol.tlvs.filter(
      ({ type }) =>
        type !== NOOP && type !== CRC32C && !hasType(added, type) && (passTlvs === 'all' || this.#passed.has(type)),
    )
  }

  #addedFor(downstream: ConnectionInfo, hostTlvs: readonly AddedTlvConfig[] | undefined): readonly ProxyTlv[] {
    const added = this.#added(downstream)
    if (hostTlvs === undefined) return added
    const own = compileAddedTlvs(hostTlvs)(downstream)
    return [...own, ...added.filter(({ type }) => !hasType(own, type))]
  }
}

/**
 * The header of a connection that is for nobody but us: a health check. Version 1 names its own ends, version 2 says LOCAL.
 *
 * @param local as in `UpstreamInfo.localAddress`
 */
export function checkHeader(version: 1 | 2, local: string, remote: string): Buffer {
  if (version === 2) return binaryHeader(0x20, undefined, [])
  const [from, to] = [endOf(local), endOf(remote)]
  if (from === undefined || to === undefined) return Buffer.from(textHeader(undefined), 'latin1')
  const facts = { remoteAddress: from.host, remotePort: from.port, localAddress: to.host, localPort: to.port }
  return Buffer.from(textHeader(facts), 'latin1')
}

function endOf(text: string): { readonly host: string; readonly port: number } | undefined {
  const colon = text.lastIndexOf(':')
  const host = text.slice(0, colon).replace(/^\[|\]$/g, '')
  return colon > 0 && isIP(host) !== 0 ? { host, port: Number(text.slice(colon + 1)) } : undefined
}

function hasType(tlvs: readonly ProxyTlv[], wanted: number): boolean {
  return tlvs.some(({ type }) => type === wanted)
}

/** TLVs that a header has no room for are left out. */
function fitting(tlvs: readonly ProxyTlv[]): readonly ProxyTlv[] {
  let room = MAX_BYTES - 36
  return tlvs.filter(({ value }) => {
    const size = 3 + value.length
    if (size > room) return false
    room -= size
    return true
  })
}

/** Both addresses in the family that they share; undefined where they are no IP addresses. */
function families(
  facts: ProxyFacts,
): { readonly source: string; readonly target: string; readonly v4: boolean } | undefined {
  const source = canonicalIp(facts.remoteAddress)
  const target = canonicalIp(facts.localAddress)
  if (isIPv4(source) && isIPv4(target)) return { source, target, v4: true }
  const [six, seven] = [mapped(source), mapped(target)]
  return isIPv6(six) && isIPv6(seven) ? { source: six, target: seven, v4: false } : undefined
}

function mapped(address: string): string {
  return isIPv4(address) ? `::ffff:${address}` : address
}

function textHeader(facts: ProxyFacts | undefined): string {
  const pair = facts && families(facts)
  if (facts === undefined || pair === undefined) return 'PROXY UNKNOWN\r\n'
  return `PROXY ${pair.v4 ? 'TCP4' : 'TCP6'} ${pair.source} ${pair.target} ${facts.remotePort} ${facts.localPort}\r\n`
}

function binaryHeader(command: number, facts: ProxyFacts | undefined, tlvs: readonly ProxyTlv[]): Buffer {
  const pair = facts && families(facts)
  const width = pair === undefined ? 0 : pair.v4 ? 4 : 16
  const addresses = width === 0 ? 0 : 2 * width + 4
  const length = tlvs.reduce((sum, { value }) => sum + 3 + value.length, addresses)
  const header = Buffer.alloc(16 + length)
  SIGNATURE.copy(header)
  header[12] = command
  header[13] = width === 0 ? 0x00 : width === 4 ? 0x11 : 0x21
  header.writeUInt16BE(length, 14)
  let at = 16
  if (facts !== undefined && pair !== undefined) {
    writeIp(header, at, pair.source)
    writeIp(header, at + width, pair.target)
    header.writeUInt16BE(facts.remotePort, at + 2 * width)
    header.writeUInt16BE(facts.localPort, at + 2 * width + 2)
    at += addresses
  }
  for (const { type, value } of tlvs) {
    header[at] = type
    header.writeUInt16BE(value.length, at + 1)
    header.set(value, at + 3)
    at += 3 + value.length
  }
  return header
}

/** Writes an IP address as the 4 or 16 bytes it is. */
function writeIp(into: Buffer, at: number, address: string): void {
  if (isIPv4(address)) {
    for (const [i, part] of address.split('.').entries()) into[at + i] = Number(part)
    return
  }
  const [head, tail] = address.split('::')
  const left = groups(head)
  const right = tail === undefined ? [] : groups(tail)
  for (const [i, group] of left.entries()) into.writeUInt16BE(group, at + 2 * i)
  for (const [i, group] of right.entries()) into.writeUInt16BE(group, at + 2 * (8 - right.length + i))
}

/** The 16-bit groups of a part of an IPv6 address; an IPv4 tail is two. */
function groups(text: string): number[] {
  if (text === '') return []
  return text.split(':').flatMap((group) => {
    if (!group.includes('.')) return [Number.parseInt(group, 16)]
    const [a, b, c, d] = group.split('.').map(Number)
    return [a * 256 + b, c * 256 + d]
  })
}
