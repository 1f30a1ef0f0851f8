import type { JsonObject } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'
import type {
  CertificateConfig,
  DownstreamTlsConfig,
  TrustDomainConfig,
  UpstreamTlsConfig,
} from '../../lib/tls/config.ts'
import type { BindAddresses } from './connection-options.ts'

/** What translation needs of a filter factory; every `FilterFactory` of `lib/chain/filter.ts` is one. */
export interface FilterParser {
  readonly name: string
  readonly typeUrls: readonly string[]
  readonly routeTypeUrls?: readonly string[]
  readonly terminal?: boolean
  /** Answers JSON-safe data; mistakes go to the reader. */
  parse(fields: FieldReader): unknown
  parseRoute?(fields: FieldReader): unknown
}

/** What translation needs of a `NetworkFilterFactory`. */
export interface NetworkFilterParser {
  readonly name: string
  readonly typeUrls: readonly string[]
  readonly terminal?: boolean
  parse(fields: FieldReader): unknown
  clusters?(config: unknown): readonly string[]
}

/** What translation needs of a `ListenerFilterFactory`. */
export interface ListenerFilterParser {
  readonly name: string
  readonly typeUrls: readonly string[]
  readonly inspector?: boolean
  readonly internalOnly?: string
  parse(fields: FieldReader): unknown
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
  /** Flattened static runtime, for settings that a runtime key overrides. */
  readonly runtime?: JsonObject
  /** A reader of a message without any field set, for filters that are configured by their name alone. */
  readonly emptyFields?: (typeName: string, path: string) => FieldReader | undefined
  /** Settings of the bootstrap that hold for clusters without their own. */
  readonly clusterDefaults?: ClusterDefaults
}

export interface ClusterDefaults {
  /** `cluster_manager.upstream_bind_config` */
  readonly bind?: BindAddresses
  /** `host:port` of name servers; empty: those of the machine. */
  readonly resolvers: readonly string[]
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

/** Reads a number that a runtime key overrides. The runtime is static, so the answer holds for good. */
export function runtimeNumber(context: EnvoyContext, key: string): number | undefined {
  const runtime = context.runtime
  if (runtime === undefined || key === '' || !Object.hasOwn(runtime, key)) return undefined
  const value = runtime[key]
  if (typeof value === 'number') return value
  if (typeof value !== 'string' || value.trim() === '') return undefined
  const parsed = Number(value)
  return Number.isFinite(parsed) ? parsed : undefined
}

/** Reads a boolean that a runtime key overrides. */
export function runtimeBool(context: EnvoyContext, key: string): boolean | undefined {
  const runtime = context.runtime
  if (runtime === undefined || !Object.hasOwn(runtime, key)) return undefined
  const value = runtime[key]
  if (typeof value === 'boolean') return value
  return value === 'true' ? true : value === 'false' ? false : undefined
}
