import type { NativeAddress } from './clusters.ts'
import type { NativeCidr } from './matches.ts'
import type { NativeCertificate, NativePem } from './tls.ts'

/** Who we are in a mesh: a certificate and the authorities, or `workload`, which takes both from the gateway's option of that name. */
export type NativeMeshIdentity = 'workload' | { readonly certificate: NativeCertificate; readonly trustedCa: NativePem }

/** Where tunnels may lead. Exactly one of `listener`, `cluster` and `forbidden`. */
export interface NativeHboneTarget {
  /** Names or addresses as in the authority, or `*.suffix`. Default, where there are no `ranges` either: any. */
  readonly hosts?: readonly string[]
  readonly ranges?: readonly NativeCidr[]
  /** Default: any. */
  readonly ports?: readonly number[]
  /** The name of an internal listener. */
  readonly listener?: string
  /** The bytes go to an endpoint of this cluster. */
  readonly cluster?: string
  /** Answered with 403. */
  readonly forbidden?: true
}

/**
 * An HBONE server, as Istio's ambient mesh speaks it: mutual TLS, HTTP/2, CONNECT alone. Clients without a certificate of
 * one of the trust domains are refused; targets that none of these fits are 404.
 */
export interface NativeHboneServer {
  /** Unique among listeners. Default: `hbone`. */
  readonly name?: string
  /** Istio's port is 15008. */
  readonly address: NativeAddress
  readonly identity: NativeMeshIdentity
  /** Trust domains of clients that are let in: `cluster.local`. */
  readonly trustDomains: readonly string[]
  /** In order: the first that fits. */
  readonly targets: readonly NativeHboneTarget[]
}

/** Another network's gateway. */
export interface NativeHboneGateway {
  readonly address: NativeAddress
  /** SPIFFE identities, one of which it must have. */
  readonly identities: readonly string[]
}

/** Connections to endpoints are HBONE tunnels. */
export interface NativeHbone {
  readonly identity: NativeMeshIdentity
  /** SPIFFE identities, one of which the peer must have. */
  readonly identities: readonly string[]
  /** At each endpoint's own address. Default: 15008. */
  readonly port?: number
  /** A proxy for all endpoints instead. */
  readonly proxy?: NativeAddress
  /** What is asked for. Default: `address`. */
  readonly authority?: 'address' | 'hostname'
  /** Fields of each CONNECT: `baggage`, `x-forwarded-network`. */
  readonly headers?: { readonly [name: string]: string }
  /** Double HBONE: whom to reach is in another network. */
  readonly gateway?: NativeHboneGateway
}
