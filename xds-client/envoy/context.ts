import type { ConfigSources } from '../../lib/core/config-sources.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type {
  CertificateConfig,
  DownstreamTlsConfig,
  TrustDomainConfig,
  UpstreamTlsConfig,
} from '../../lib/tls/config.ts'
import type { ClusterConfig, DnsConfig } from '../../lib/upstream/config.ts'
import type { ConfigSourceConfig } from '../config.ts'
import type { Authorities } from './authorities.ts'
import type { BindAddresses } from './connection-options.ts'
import type { References } from './references.ts'
import type { SecretValue } from './translated.ts'

/** What translation needs of a filter factory; every `FilterFactory` of `lib/chain/filter.ts` is one. */
export interface FilterParser {
  readonly name: string
  readonly typeUrls: readonly string[]
  readonly routeTypeUrls?: readonly string[]
  readonly terminal?: boolean
  readonly upstream?: boolean
  /** Answers JSON-safe data; mistakes go to the reader. */
  parse(fields: FieldReader, sources?: ConfigSources): unknown
  parseRoute?(fields: FieldReader, sources?: ConfigSources): unknown
}

/** What translation needs of a `NetworkFilterFactory`. */
export interface NetworkFilterParser {
  readonly name: string
  readonly typeUrls: readonly string[]
  readonly terminal?: boolean
  parse(fields: FieldReader, sources?: ConfigSources): unknown
  clusters?(config: unknown): readonly string[]
}

/** What translation needs of a `ListenerFilterFactory`. */
export interface ListenerFilterParser {
  readonly name: string
  readonly typeUrls: readonly string[]
  readonly inspector?: boolean
  readonly internalOnly?: string
  parse(fields: FieldReader, sources?: ConfigSources): unknown
}

/** What a translation may know besides the message itself. Shared by all resources of one configuration; never changed. */
export interface EnvoyContext {
  /** By type URL without `type.googleapis.com/`; a factory stands under each of its `typeUrls`. */
  readonly filters: ReadonlyMap<string, FilterParser>
  /** The same for filters of layer 4 and for listener filters. */
  readonly networkFilters: ReadonlyMap<string, NetworkFilterParser>
  readonly listenerFilters: ReadonlyMap<string, ListenerFilterParser>
  readonly checks: EnvoyChecks
  /** Content of a file that a DataSource names; throws where it cannot be read. Undefined: files are refused. */
  readonly readFile?: (path: string) => Buffer
  /** Hears of directories that a configuration wants watched for changes of its files. */
  readonly watchDirectory?: (path: string) => void
  /** Environment variables for DataSources; undefined: they are refused. */
  readonly environment?: (name: string) => string | undefined
  /** Formats of certificates besides PEM; undefined: they are refused. */
  readonly tlsFormats?: TlsFormats
  /** Names of the clusters that exist; undefined: not known, so references are not checked. */
  readonly clusters?: ReadonlySet<string>
  /** There may be others besides, which are delivered. */
  readonly clustersDelivered?: boolean
  /** A reader of a message without any field set, for filters that are configured by their name alone. */
  readonly emptyFields?: (typeName: string, path: string) => FieldReader | undefined
  /** Settings of the bootstrap that hold for clusters without their own. */
  readonly clusterDefaults?: ClusterDefaults
  /** Hears what the resource that is translated needs from elsewhere; undefined: such references are refused. */
  readonly references?: References
  /** Where the resource that is translated comes from: what `self` means in it. Undefined: it is static. */
  readonly self?: ConfigSourceConfig
  /** A bootstrap has ADS; undefined: not known. */
  readonly hasAds?: boolean
  /** Clusters of the bootstrap by which management servers can be reached; undefined: not known, so names are not checked. */
  readonly managementClusters?: ReadonlySet<string>
  /** Those of the bootstrap, by name: put in the place of references that name no source. */
  readonly secrets?: ReadonlyMap<string, SecretValue>
  /** Sources of the bootstrap by the authority of a name that begins with `xdstp:`; undefined: there are none. */
  readonly authorities?: Authorities
  /** Takes the servers that clusters name for their load reports, by key; undefined: nobody reports. */
  readonly loadServers?: Map<string, ConfigSourceConfig>
  /** Takes a cluster that stands for a `google_grpc` target; undefined: such targets are refused. */
  readonly addCluster?: (cluster: ClusterConfig) => void
  /**
   * What becomes of fields that the schema does not have, in resources that are delivered (Envoy's
   * `--reject-unknown-dynamic-fields` and `--ignore-unknown-dynamic-fields`). Undefined: refused where what they say could
   * select, admit or authenticate, reported elsewhere.
   */
  readonly unknownFields?: 'reject' | 'ignore'
}

export interface ClusterDefaults {
  /** `cluster_manager.upstream_bind_config` */
  readonly bind?: BindAddresses
  /** `host:port` of name servers; empty: those of the machine. */
  readonly resolvers: Pick<DnsConfig, 'resolvers' | 'asking'>
  /** `cluster_manager.outlier_detection.event_log_path` */
  readonly outlierEventLogPath?: string
  /** `cluster_manager.local_cluster_name` */
  readonly localClusterName?: string
  /** The same, where the node says its locality. */
  readonly localCluster?: ClusterConfig['localCluster']
}

/** Readers of formats that another room owns; each throws an Error that says what is wrong. */
export interface TlsFormats {
  /** A PKCS#12 file as PEM. */
  pkcs12(file: Buffer, passphrase: string | undefined): CertificateConfig
  /** SPIFFE trust bundles, JSON. */
  trustBundles(text: string): readonly TrustDomainConfig[]
}

/** A mistake in a TLS context. */
export interface TlsProblem {
  /** From the context down, as in the IR: `certificates[0].privateKey`. */
  readonly path: string
  readonly message: string
}

/** Grammars that other rooms own: each answers what is wrong with a text, or undefined. */
export interface EnvoyChecks {
  /** `%...%` formats, as access logs and header additions use them. */
  format(text: string): string | undefined
  /** `envoy.extensions.path.match.uri_template`. */
  pathTemplate(pattern: string): string | undefined
  /** The rewriter that belongs to it: literal text and `{name}` for variables of `pattern`. */
  pathTemplateRewrite(pattern: string, rewrite: string): string | undefined
  /** Certificates, keys, authorities and the names of ciphers and groups: what is wrong, nothing where all can be used. */
  tls(config: DownstreamTlsConfig | UpstreamTlsConfig): readonly TlsProblem[]
}
