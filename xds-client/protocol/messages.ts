/** The messages of the discovery services, as far as the protocol looks into them. */

/** `google.rpc.Status`, as far as it is used. */
export interface ErrorDetail {
  readonly code: number
  readonly message: string
}

/** `envoy.service.discovery.v3.DiscoveryRequest`. */
export interface WholeRequest {
  /** The node goes with it. */
  readonly node: boolean
  /** Without `type.googleapis.com/`. */
  readonly typeName: string
  readonly version: string
  readonly nonce: string
  readonly names: readonly string[]
  readonly error: ErrorDetail | undefined
}

/** `envoy.service.discovery.v3.DeltaDiscoveryRequest`. */
export interface DeltaRequest {
  readonly node: boolean
  readonly typeName: string
  readonly nonce: string
  readonly subscribe: readonly string[]
  readonly unsubscribe: readonly string[]
  readonly initialVersions: ReadonlyMap<string, string>
  readonly error: ErrorDetail | undefined
}

/** One resource of a response, in its wrapper (`envoy.service.discovery.v3.Resource`) or without. */
export interface WireResource {
  /** '' where it has no wrapper, or the wrapper does not say. */
  readonly name: string
  /** '' where it has no wrapper. */
  readonly version: string
  readonly aliases: readonly string[]
  /** Undefined: it lives until somebody says otherwise. */
  readonly ttlMs: number | undefined
  /** Of the Any, without `type.googleapis.com/`; '' where there is none. */
  readonly typeName: string
  /** Of the Any; a part of the response. Undefined: the wrapper is empty. */
  readonly bytes: Uint8Array | undefined
  readonly wrapped: boolean
}

/** `envoy.service.discovery.v3.ResourceError`. */
export interface ResourceError extends ErrorDetail {
  readonly name: string
}

/** `envoy.service.discovery.v3.DiscoveryResponse` and `DeltaDiscoveryResponse`. */
export interface DiscoveryResponse {
  /** `version_info` or `system_version_info`. */
  readonly version: string
  /** Without `type.googleapis.com/`. */
  readonly typeName: string
  readonly nonce: string
  readonly resources: readonly WireResource[]
  /** Delta: of both fields that list them. */
  readonly removed: readonly string[]
  readonly errors: readonly ResourceError[]
  /** What the server calls itself. */
  readonly controlPlane: string
}
