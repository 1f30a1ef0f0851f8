import { isIP } from 'node:net'
import { plainServerName } from '../../tls/client-hello.ts'
import type { UpstreamTlsConfig } from '../../tls/config.ts'

/** Whom a connection is for: what it tells the peer, and what the peer's certificate must name. */
export interface ServerIdentity {
  /** Sent as SNI; undefined: none. Never an IP address (RFC 6066 §3). */
  readonly serverName: string | undefined
  /** The certificate must name it, in lower case; undefined: no such demand. May be an IP address; '' is in none. */
  readonly expectedHost: string | undefined
}

/**
 * `sni` where it is set, otherwise the endpoint's hostname or the host of the request's authority, as `autoSni` says. A
 * name that cannot be an SNI (an IP address, not ASCII) is not sent, but still expected in the certificate where names
 * are validated.
 */
export function serverIdentity(config: UpstreamTlsConfig, hostname: string, authority: string): ServerIdentity {
  const wanted = wantedHost(config, hostname, authority)
  // A final dot is part of neither SNI nor certificates.
  const host = wanted.endsWith('.') ? wanted.slice(0, -1) : wanted
  const serverName = host === '' || isIP(host) !== 0 ? undefined : plainServerName(host)
  return { serverName, expectedHost: demandsName(config, host) ? host.toLowerCase() : undefined }
}

/**
 * A request without a host finds no certificate good enough, as in Envoy. An endpoint without a name is held to the
 * configured names, where there are any.
 */
function demandsName({ autoSanValidation, autoSni, validation }: UpstreamTlsConfig, host: string): boolean {
  if (!autoSanValidation) return false
  return host !== '' || autoSni === 'authority' || validation === undefined || validation.sans.length === 0
}

function wantedHost({ sni, autoSni }: UpstreamTlsConfig, hostname: string, authority: string): string {
  switch (autoSni) {
    case 'none':
      return sni
    case 'host':
      return hostname === '' ? sni : hostname
    case 'authority': {
      const host = hostOf(authority)
      return host === '' ? sni : host
    }
  }
}

/** `example.com:8443` → `example.com`, `[::1]:443` → `::1`. */
function hostOf(authority: string): string {
  if (authority.startsWith('[')) {
    const end = authority.indexOf(']')
    return end < 0 ? '' : authority.slice(1, end)
  }
  const colon = authority.lastIndexOf(':')
  return colon < 0 ? authority : authority.slice(0, colon)
}
