/** All blocks of one label in a PEM text, each a PEM of its own, in order. Text between blocks is skipped (RFC 7468 §2). */
export function pemBlocks(text: string, label: RegExp): string[] {
  const blocks: string[] = []
  for (const match of text.matchAll(/-----BEGIN ([A-Z0-9 ]+)-----[^-]*-----END \1-----/g)) {
    if (label.test(match[1])) blocks.push(`${match[0]}\n`)
  }
  return blocks
}

/** Whether there are blocks that `pemBlocks` does not see: they have a beginning, and no end of their own. */
export function hasUnended(text: string, label: RegExp): boolean {
  let begun = 0
  for (const [, name] of text.matchAll(/-----BEGIN ([A-Z0-9 ]+)-----/g)) if (label.test(name)) begun++
  return begun !== pemBlocks(text, label).length
}

/** Labels under which certificates are stored. */
export const CERTIFICATE_LABEL = /^(?:X509 |TRUSTED )?CERTIFICATE$/
export const CRL_LABEL = /^X509 CRL$/
