import type { X509Certificate } from 'node:crypto'
import { isIP, SocketAddress } from 'node:net'
import { canonicalIp } from '../core/address.ts'

/** The subject alternative names of a certificate, by type, as they stand in it; IP addresses in their one spelling. */
export interface CertificateNames {
  readonly dns: readonly string[]
  readonly uri: readonly string[]
  readonly email: readonly string[]
  readonly ip: readonly string[]
}

/** A name with any other character (NUL, line breaks, non-ASCII) is one that two readers may read differently. */
const PRINTABLE = /^[\x21-\x7e]+$/

/** Reads the names of a certificate. Names that are not printable ASCII are left out: they match nothing. */
export function certificateNames(certificate: X509Certificate): CertificateNames {
  const names: { dns: string[]; uri: string[]; email: string[]; ip: string[] } = { dns: [], uri: [], email: [], ip: [] }
  for (const [type, value] of generalNames(certificate.subjectAltName ?? '')) {
    if (!PRINTABLE.test(value)) continue
    if (type === 'DNS') names.dns.push(value)
    else if (type === 'URI') names.uri.push(value)
    else if (type === 'email') names.email.push(value)
    else if (type === 'IP Address') names.ip.push(plainIp(value))
  }
  return names
}

/**
 * Takes apart Node's `DNS:a, URI:"b\u002c c"`. Values that hold anything special are quoted as JSON, so a comma outside
 * of quotes always separates: a value cannot pass for two names.
 */
function generalNames(text: string): [type: string, value: string][] {
  const names: [string, string][] = []
  for (let at = 0; at < text.length; ) {
    const colon = text.indexOf(':', at)
    if (colon < 0) break
    const type = text.slice(at, colon)
    let end: number
    let value: string
    if (text[colon + 1] === '"') {
      end = text.indexOf('"', colon + 2) + 1
      if (end === 0) break
      // Quotes and backslashes inside are written as \uXXXX or escaped: step over escaped ones.
      while (escaped(text, end - 1)) {
        end = text.indexOf('"', end) + 1
        if (end === 0) return names
      }
      value = unquote(text.slice(colon + 1, end))
    } else {
      end = text.indexOf(', ', colon)
      if (end < 0) end = text.length
      value = text.slice(colon + 1, end)
    }
    names.push([type, value])
    at = end + 2
  }
  return names
}

function escaped(text: string, at: number): boolean {
  let slashes = 0
  while (text[at - 1 - slashes] === '\\') slashes++
  return slashes % 2 === 1
}

function unquote(json: string): string {
  try {
    return JSON.parse(json) as string
  } catch {
    // Not printable, so it matches nothing.
    return '\0'
  }
}

/** `2001:DB8:0:0:0:0:0:1` as `2001:db8::1`, v4-mapped addresses as IPv4; anything else as it is. */
export function plainIp(text: string): string {
  if (isIP(text) !== 6) return text
  return canonicalIp(new SocketAddress({ address: text, family: 'ipv6' }).address)
}

/**
 * Whether a name in a certificate (`pattern`) stands for a host: equal but for case, or `*.` and the rest of the host
 * without its first label (RFC 9525 §6.3). `f*.example` matches nothing.
 */
export function dnsNameMatches(host: string, pattern: string): boolean {
  const name = host.toLowerCase()
  const expected = pattern.toLowerCase()
  if (name === expected) return true
  if (!expected.startsWith('*.') || expected.indexOf('*', 1) >= 0) return false
  const dot = name.indexOf('.')
  return dot > 0 && name.slice(dot) === expected.slice(1)
}

/** Whether a certificate names a host: an IP address among its IP names, anything else among its DNS names. */
export function namesHost(names: CertificateNames, host: string): boolean {
  if (isIP(host) === 0) return names.dns.some((pattern) => dnsNameMatches(host, pattern))
  return names.ip.includes(plainIp(host))
}

/**
 * A distinguished name as logs and headers show it: one line, last component first, ASCII (RFC 2253). Node gives one
 * component per line, escaped but for non-ASCII characters.
 */
export function subjectText(subject: string | undefined): string {
  if (subject === undefined) return ''
  const components = subject.split('\n').reverse()
  return components.map((component) => asciiOf(component.replaceAll(' + ', '+'))).join(',')
}

function asciiOf(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, (part) =>
    [...Buffer.from(part)].map((byte) => `\\${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(''),
  )
}
