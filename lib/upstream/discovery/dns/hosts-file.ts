import { canonicalIp, isIp } from '../../../core/address.ts'

/** Lower-case names of a hosts(5) file with their addresses, in the order of the file. */
export type HostsFile = ReadonlyMap<string, readonly string[]>

/** Never fails: lines that are not `address name...` are skipped. */
export function parseHostsFile(text: string): HostsFile {
  const hosts = new Map<string, string[]>()
  for (const line of text.split('\n')) {
    const [address, ...names] = line.replace(/#.*/, '').trim().split(/\s+/)
    if (!isIp(address)) continue
    const ip = canonicalIp(address)
    for (const name of names) {
      const key = name.replace(/\.$/, '').toLowerCase()
      const known = hosts.get(key)
      if (known === undefined) hosts.set(key, [ip])
      else if (!known.includes(ip)) known.push(ip)
    }
  }
  return hosts
}
