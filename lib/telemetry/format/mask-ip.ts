import { isIPv4, isIPv6 } from 'node:net'

/** The network of an address in CIDR notation (`10.1.0.0/16`); undefined where `address` is not an IP address. */
export function maskIp(address: string, bits: number): string | undefined {
  if (isIPv4(address)) {
    if (bits > 32) return undefined
    const octets = address.split('.').map(Number)
    return `${octets.map((octet, i) => octet & partMask(bits - i * 8, 8)).join('.')}/${bits}`
  }
  if (!isIPv6(address) || bits > 128) return undefined
  const groups = groupsOf(address).map((group, i) => group & partMask(bits - i * 16, 16))
  return `${compress(groups)}/${bits}`
}

/** The mask of one part of `size` bits, of which the first `bits` belong to the network. */
function partMask(bits: number, size: number): number {
  const kept = Math.max(0, Math.min(size, bits))
  return (2 ** size - 1) ^ (2 ** (size - kept) - 1)
}

/** The eight groups of a valid IPv6 address; its zone is dropped. */
function groupsOf(address: string): number[] {
  const [head, tail] = address.split('%')[0].split('::')
  const left = wordsOf(head)
  if (tail === undefined) return left
  const right = wordsOf(tail)
  return [...left, ...new Array<number>(8 - left.length - right.length).fill(0), ...right]
}

function wordsOf(text: string): number[] {
  const words: number[] = []
  for (const part of text === '' ? [] : text.split(':')) {
    if (part.includes('.')) {
      const [a, b, c, d] = part.split('.').map(Number)
      words.push((a << 8) | b, (c << 8) | d)
    } else words.push(Number.parseInt(part, 16))
  }
  return words
}

/** RFC 5952: the longest run of zero groups, of two at least, becomes `::`. */
function compress(groups: readonly number[]): string {
  let start = -1
  let length = 1
  for (let i = 0; i < 8; i++) {
    let end = i
    while (end < 8 && groups[end] === 0) end++
    if (end - i > length) {
      start = i
      length = end - i
    }
    if (end > i) i = end
  }
  const hex = groups.map((group) => group.toString(16))
  if (start < 0) return hex.join(':')
  return `${hex.slice(0, start).join(':')}::${hex.slice(start + length).join(':')}`
}
