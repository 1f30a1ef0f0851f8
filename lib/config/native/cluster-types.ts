import type { NativeBalancer } from './balancers.ts'
import type { NativeCidr } from './matches.ts'

/** Requests go to the host that they name, which is looked up: a forward proxy. Times in ms. */
export interface NativeForwardProxy {
  /** Names that nobody has asked for during that time are forgotten. Default: 300,000. */
  readonly hostTtlMs?: number
  /** Names at a time; one more is answered 503. Default: 1,024. */
  readonly maxHosts?: number
  /** Lookups at a time. Default: 1,024. */
  readonly maxPending?: number
  /** Looked up before they are asked for: `host:port`. Default: none. */
  readonly preresolve?: readonly string[]
  /**
   * Where this gateway may be sent by whoever makes requests: `public` is everything but this machine, private and link-local
   * networks, and what else is not reachable in public; names that lead there, and such addresses, are answered 503. Default:
   * `public`.
   */
  readonly addresses?:
    | 'public'
    | 'any'
    | { readonly deny: readonly NativeCidr[] }
    | { readonly allow: readonly NativeCidr[] }
  /**
   * Names that are known outlive the process in this file, and serve until they have been looked up again. `flushMs`: changes
   * are written so long after the first of them; default 1,000. `maxEntries`: default 1,000. Default: they do not.
   */
  readonly store?: { readonly path: string; readonly flushMs?: number; readonly maxEntries?: number }
  /** All addresses of a name are balanced over, by this policy. Default: off, a connection goes to the first that answers. */
  readonly balanceWithin?: NativeBalancer
}

/** Requests go where their connection was meant to go, as a field, metadata or a PROXY header says. */
export interface NativeOriginalDst {
  /** A field of the request with `ip:port`. Clients must not be able to set it. Default: none is looked at. */
  readonly header?: string
  /** Dynamic metadata of the request, or of its connection. Default: none is looked at. */
  readonly metadata?: { readonly namespace: string; readonly path: readonly (string | number)[] }
  /** In place of the port that is said. Default: that one. */
  readonly port?: number
  /** Hosts that nobody was sent to for so long are forgotten. Default: 5,000. */
  readonly cleanupMs?: number
}
