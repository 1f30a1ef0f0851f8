import type { ListenerConfig } from '../../lib/config/listener.ts'
import type { ConfigError, Json, JsonObject } from '../../lib/core/errors.ts'
import type { RouteTableConfig, VirtualHostConfig } from '../../lib/router/config.ts'
import type { CertificateConfig, CertificateValidationConfig } from '../../lib/tls/config.ts'
import type { AssignmentConfig, ClusterConfig, EndpointConfig } from '../../lib/upstream/config.ts'
import type { ConfigSourceConfig } from '../config.ts'
import type { Reference } from './references.ts'

/** A Secret, translated: its files have been read. */
export type SecretValue =
  | { readonly kind: 'certificate'; readonly name: string; readonly certificate: CertificateConfig }
  | {
      readonly kind: 'validation'
      readonly name: string
      /** Undefined: trusts nobody in particular, which means that nothing is verified. */
      readonly validation: CertificateValidationConfig | undefined
      /** Its names are of the deprecated list, which does not count beside typed ones. */
      readonly legacySans?: true
    }
  | { readonly kind: 'ticket-keys'; readonly name: string; readonly keys: readonly string[] }
  | {
      readonly kind: 'generic'
      readonly name: string
      /** Base64. */
      readonly value: string
      /** Of its `secrets`, base64 by name. */
      readonly values: ReadonlyMap<string, string>
    }

/** A ScopedRouteConfiguration. */
export interface ScopeConfig {
  readonly name: string
  readonly key: readonly string[]
  /** Of a RouteConfiguration, as the source of route tables of the connection manager calls it. */
  readonly routeTable?: string
  /** Where that comes from by its authority, whatever the connection manager says. */
  readonly tableSource?: ConfigSourceConfig
  readonly routes?: RouteTableConfig
  /** The route table is asked for when a request comes; where that cannot be done it is asked for at once. */
  readonly onDemand: boolean
}

/** A TypedExtensionConfig: a filter that is delivered by name. */
export interface ExtensionConfig {
  readonly name: string
  readonly place: 'http' | 'network' | 'listener'
  /** As it was sent, for comparison with the types that are taken. */
  readonly sentType: string
  /** Of the factory. */
  readonly typeUrl: string
  readonly config: Json
  /** It ends the chain. */
  readonly terminal: boolean
}

/** One layer of a runtime discovery service. */
export interface RuntimeConfig {
  readonly name: string
  /** As it was sent: levels are objects. */
  readonly values: JsonObject
}

/** What resources of each type become. */
export interface ResourceConfigs {
  'envoy.config.listener.v3.Listener': ListenerConfig
  /** `name` is the resource's own name, not the key. */
  'envoy.config.route.v3.RouteConfiguration': RouteTableConfig
  'envoy.config.route.v3.ScopedRouteConfiguration': ScopeConfig
  'envoy.config.route.v3.VirtualHost': VirtualHostConfig
  'envoy.config.cluster.v3.Cluster': ClusterConfig
  /** `name` is the resource's own name, not the key. */
  'envoy.config.endpoint.v3.ClusterLoadAssignment': AssignmentConfig
  'envoy.config.endpoint.v3.LbEndpoint': EndpointConfig
  'envoy.extensions.transport_sockets.tls.v3.Secret': SecretValue
  'envoy.config.core.v3.TypedExtensionConfig': ExtensionConfig
  'envoy.service.runtime.v3.Runtime': RuntimeConfig
}

/** Full names of the types of resources. */
export type ResourceType = keyof ResourceConfigs

/** What became of one resource. */
export interface TranslatedResource<C = ResourceConfigs[ResourceType]> {
  readonly name: string
  /** Undefined where there are errors. */
  readonly config: C | undefined
  /** What it needs from elsewhere. */
  readonly references: readonly Reference[]
  /** Why it is refused; none: it is accepted. Paths begin at the resource. */
  readonly errors: readonly ConfigError[]
  /** Paths of fields that are set and have no effect. */
  readonly ignored: readonly string[]
  /** Files whose content is part of it: it changes when they do. */
  readonly files: readonly string[]
  /** Directories whose changes announce those of files (`watched_directory`). */
  readonly directories: readonly string[]
  /** Clusters that stand for `google_grpc` targets of its sources, and that nobody else configures. */
  readonly clusters: readonly ClusterConfig[]
}
