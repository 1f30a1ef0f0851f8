import { createHash } from 'node:crypto'
import type { HelloFacts } from './hello-facts.ts'

const SERVER_NAME = 0
const ALPN = 16
/** What stands for the hash of an empty list. */
const NO_HASH = '000000000000'

/** The versions as JA4 writes them. */
const VERSIONS: ReadonlyMap<number, string> = new Map([
  [0x0304, '13'],
  [0x0303, '12'],
  [0x0302, '11'],
  [0x0301, '10'],
  [0x0300, 's3'],
  [0x0002, 's2'],
])

/** The numbers that RFC 8701 reserves so that nobody depends on them: 0x0a0a, 0x1a1a, … 0xfafa. */
export function isGrease(value: number): boolean {
  return (value & 0x0f0f) === 0x0a0a && value >> 8 === (value & 0xff)
}

/** JA3: the MD5 of version, ciphers, extensions, groups and point formats. GREASE is left out everywhere. */
export function ja3(facts: HelloFacts): string {
  const lists = [facts.ciphers, facts.extensions, facts.groups, facts.pointFormats]
  const text = [facts.version, ...lists.map((list) => withoutGrease(list).join('-'))].join(',')
  return createHash('md5').update(text).digest('hex')
}

/** JA4 as FoxIO publishes it (technical_details/JA4), for TLS over TCP. */
export function ja4(facts: HelloFacts): string {
  const ciphers = withoutGrease(facts.ciphers)
  const extensions = withoutGrease(facts.extensions)
  const name = extensions.includes(SERVER_NAME) ? 'd' : 'i'
  const counts = `${twoDigits(ciphers.length)}${twoDigits(extensions.length)}`
  const hashed = extensions.filter((type) => type !== SERVER_NAME && type !== ALPN)
  const algorithms = withoutGrease(facts.signatureAlgorithms).map(hex)
  // Without signature algorithms there is no underscore either.
  const tail = algorithms.length === 0 ? '' : `_${algorithms.join(',')}`
  return [
    `t${versionOf(facts)}${name}${counts}${ends(facts.firstProtocol)}`,
    ciphers.length === 0 ? NO_HASH : shortHash(sorted(ciphers)),
    hashed.length === 0 ? NO_HASH : shortHash(`${sorted(hashed)}${tail}`),
  ].join('_')
}

function withoutGrease(values: readonly number[]): readonly number[] {
  return values.filter((value) => !isGrease(value))
}

/** The highest one offered; before TLS 1.3 that is the hello's own. */
function versionOf({ version, supportedVersions }: HelloFacts): string {
  const offered = withoutGrease(supportedVersions)
  return VERSIONS.get(offered.length === 0 ? version : Math.max(...offered)) ?? '00'
}

function twoDigits(count: number): string {
  return String(Math.min(count, 99)).padStart(2, '0')
}

/** First and last character of the first protocol, of its hexadecimal form where one of them is no letter or digit. */
function ends(protocol: string | undefined): string {
  if (protocol === undefined) return '00'
  const plain = /^[0-9A-Za-z]/.test(protocol) && /[0-9A-Za-z]$/.test(protocol)
  const text = plain ? protocol : Buffer.from(protocol, 'latin1').toString('hex')
  return `${text[0]}${text[text.length - 1]}`
}

function hex(value: number): string {
  return value.toString(16).padStart(4, '0')
}

function sorted(values: readonly number[]): string {
  return values.map(hex).sort().join(',')
}

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12)
}
