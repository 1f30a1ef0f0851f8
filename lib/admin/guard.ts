import { isIP } from 'node:net'
import type { Address } from '../core/address.ts'

/**
 * Why a request is refused, or undefined. A page in somebody's browser can send requests to a loopback port, and by
 * rebinding its own name in DNS also read the answers. Both show: in `Origin`, and in a `Host` that names neither an
 * address nor this machine. Programs that send no `Origin` (curl, Prometheus, probes) pass; a Unix socket is out of a
 * browser's reach, so its `Host` may be anything.
 */
export function refusal(address: Address, host: string | undefined, origin: string | undefined): string | undefined {
  if (address.kind === 'pipe') return origin === undefined ? undefined : `origin ${origin} is not allowed here`
  if (host !== undefined && !isOwnName(hostName(host), address.host)) {
    return `host ${host} is not allowed here: use an IP address or localhost`
  }
  if (origin === undefined || origin === `http://${host}`) return undefined
  return `origin ${origin} is not allowed here`
}

/** Without the port and the brackets of IPv6. */
function hostName(host: string): string {
  if (host.startsWith('[')) return /^\[([^\]]*)\](:\d*)?$/.exec(host)?.[1] ?? ''
  const colon = host.indexOf(':')
  return (colon < 0 ? host : host.slice(0, colon)).toLowerCase()
}

function isOwnName(name: string, configured: string): boolean {
  return isIP(name) !== 0 || name === 'localhost' || name === configured.toLowerCase()
}
