import { isIPv6 } from 'node:net'
import { canonicalIp } from '../core/address.ts'
import type { CidrConfig } from './config.ts'

/**
 * Compiles a set of address ranges. The function takes any spelling of an IP address, v4-mapped IPv6 included, which is
 * IPv4 on both sides; what is no IP address (the path of a Unix socket) is in no range.
 *
 * @throws Error where a range is no IP address or its length is out of bounds.
 */
export function compileCidrs(list: readonly CidrConfig[]): (ip: string) => boolean {
  const ranges4: number[] = []
  const ranges6: Int32Array[] = []
  for (const range of list) {
    const words = new Int32Array(8)
    const kind = parseIp(range.address, words)
    const length = kind === 4 ? lengthOf4(range.address, range.prefixLength) : range.prefixLength
    if (kind === 0 || !Number.isInteger(length) || length < 0 || length > (kind === 4 ? 32 : 128)) refuse(range)
    if (kind === 4) {
      ranges4.push(words[3] & mask32(length), mask32(length))
    } else {
      for (let i = 0; i < 4; i++) {
        words[i + 4] = mask32(Math.min(32, Math.max(0, length - 32 * i)))
        words[i] &= words[i + 4]
      }
      ranges6.push(words)
    }
  }
  return setOf(Int32Array.from(ranges4), ranges6)
}

/** The one spelling of a range, for comparison: bits beyond its length are 0. What is no range stays as it is. */
export function canonicalRange({ address, prefixLength }: CidrConfig): string {
  const words = new Int32Array(4)
  const kind = parseIp(address, words)
  const length = kind === 4 ? lengthOf4(address, prefixLength) : prefixLength
  if (kind === 0 || !Number.isInteger(length) || length < 0 || length > (kind === 4 ? 32 : 128)) {
    return `${address}/${prefixLength}`
  }
  if (kind === 4) {
    const masked = words[3] & mask32(length)
    return `${masked >>> 24}.${(masked >>> 16) & 255}.${(masked >>> 8) & 255}.${masked & 255}/${length}`
  }
  const parts: string[] = []
  for (let i = 0; i < 4; i++) {
    const masked = words[i] & mask32(Math.min(32, Math.max(0, length - 32 * i)))
    parts.push((masked >>> 16).toString(16), (masked & 0xffff).toString(16))
  }
  return `${parts.join(':')}/${length}`
}

/** ::ffff:10.0.0.0/104 is 10.0.0.0/8. */
function lengthOf4(address: string, prefixLength: number): number {
  return address.includes(':') ? Math.max(0, prefixLength - 96) : prefixLength
}

function refuse(range: CidrConfig): never {
  throw new Error(`"${range.address}/${range.prefixLength}" is not an IP address range`)
}

function mask32(length: number): number {
  return length === 0 ? 0 : (-1 << (32 - length)) | 0
}

function setOf(ranges4: Int32Array, ranges6: readonly Int32Array[]): (ip: string) => boolean {
  const words = new Int32Array(4)
  return (ip) => {
    const kind = parseIp(ip, words)
    if (kind === 4) {
      for (let i = 0; i < ranges4.length; i += 2) if (((words[3] ^ ranges4[i]) & ranges4[i + 1]) === 0) return true
    } else if (kind === 6) {
      for (const range of ranges6) if (inRange(words, range)) return true
    }
    return false
  }
}

/** What is left of a parsed address under a mask: equal for two addresses where they are in the same range. */
export function maskedKey(words: Int32Array, kind: 4 | 6, length: number): string | number {
  if (kind === 4) return words[3] & mask32(length)
  const word = (i: number): number => words[i] & mask32(Math.min(32, Math.max(0, length - 32 * i)))
  return `${word(0)}:${word(1)}:${word(2)}:${word(3)}`
}

/** Writes the address as four words and answers its kind, 0 for none. Every spelling of a v4-mapped address is IPv4. */
export function parseIp(text: string, into: Int32Array): 0 | 4 | 6 {
  const address = canonicalIp(text)
  const v4 = parseIpv4(address)
  if (v4 >= 0) {
    into[3] = v4
    return 4
  }
  if (!parseIpv6(address, into)) return 0
  return into[0] === 0 && into[1] === 0 && into[2] === 0xffff ? 4 : 6
}

function inRange(words: Int32Array, range: Int32Array): boolean {
  for (let i = 0; i < 4; i++) if (((words[i] ^ range[i]) & range[i + 4]) !== 0) return false
  return true
}

/** The address as a number in [0, 2^32), -1 where it is not dotted decimal. */
function parseIpv4(text: string): number {
  let value = 0
  let octet = -1
  let dots = 0
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code >= 0x30 && code <= 0x39) {
      octet = octet < 0 ? code - 0x30 : octet * 10 + code - 0x30
      if (octet > 255) return -1
    } else if (code === 0x2e && octet >= 0 && dots < 3) {
      value = value * 256 + octet
      octet = -1
      dots++
    } else return -1
  }
  return dots === 3 && octet >= 0 ? value * 256 + octet : -1
}

/** Writes four big-endian words; false where it is no IPv6 address. */
function parseIpv6(text: string, into: Int32Array): boolean {
  if (!isIPv6(text)) return false
  const [head, tail] = splitAtGap(text)
  const front = groups(head)
  const back = groups(tail)
  for (let i = 0; i < 4; i++) into[i] = 0
  for (let i = 0; i < front.length; i++) setGroup(into, i, front[i])
  for (let i = 0; i < back.length; i++) setGroup(into, 8 - back.length + i, back[i])
  return true
}

function splitAtGap(text: string): [string, string] {
  const gap = text.indexOf('::')
  return gap < 0 ? [text, ''] : [text.slice(0, gap), text.slice(gap + 2)]
}

function setGroup(into: Int32Array, group: number, value: number): void {
  into[group >> 1] |= (group & 1) === 0 ? value << 16 : value
}

function groups(text: string): number[] {
  if (text === '') return []
  const out: number[] = []
  for (const part of text.split(':')) {
    const v4 = parseIpv4(part)
    if (v4 >= 0) out.push(v4 >>> 16, v4 & 0xffff)
    else out.push(Number.parseInt(part, 16))
  }
  return out
}
