/*
 * What may stand where an extension may: everything that is accepted somewhere, and what control planes really send
 * (whether it is accepted or not). `E` is `envoy.extensions.`.
 */

const types = (text: string): readonly string[] =>
  text
    .split(/\s+/)
    .filter((word) => word !== '')
    .map((word) => word.replace(/^E\./, 'envoy.extensions.'))

/** Types by extension point. */
export const POINTS: Readonly<Record<string, readonly string[]>> = {
  'HTTP filters': types(`
    E.filters.http.router.v3.Router E.filters.http.buffer.v3.Buffer E.filters.http.cors.v3.Cors
    E.filters.http.grpc_http1_bridge.v3.Config E.filters.http.grpc_stats.v3.FilterConfig E.filters.http.grpc_web.v3.GrpcWeb
    E.filters.http.header_mutation.v3.HeaderMutation E.filters.http.health_check.v3.HealthCheck
    E.filters.http.on_demand.v3.OnDemand E.filters.http.adaptive_concurrency.v3.AdaptiveConcurrency
    E.filters.http.admission_control.v3.AdmissionControl E.filters.http.bandwidth_limit.v3.BandwidthLimit
    E.common.matching.v3.ExtensionWithMatcher E.filters.http.api_key_auth.v3.ApiKeyAuth
    E.filters.http.basic_auth.v3.BasicAuth E.filters.http.composite.v3.Composite E.filters.http.compressor.v3.Compressor
    E.filters.http.csrf.v3.CsrfPolicy E.filters.http.dynamic_forward_proxy.v3.FilterConfig
    E.filters.http.dynamic_modules.v3.DynamicModuleFilter E.filters.http.ext_authz.v3.ExtAuthz
    E.filters.http.ext_proc.v3.ExternalProcessor E.filters.http.fault.v3.HTTPFault
    E.filters.http.jwt_authn.v3.JwtAuthentication E.filters.http.local_ratelimit.v3.LocalRateLimit
    E.filters.http.lua.v3.Lua E.filters.http.oauth2.v3.OAuth2 E.filters.http.ratelimit.v3.RateLimit
    E.filters.http.rbac.v3.RBAC E.filters.http.set_metadata.v3.Config E.filters.http.stateful_session.v3.StatefulSession
    E.filters.http.wasm.v3.Wasm envoy.api.v2.filter.http.FilterTransformations
    istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig stats.PluginConfig udpa.type.v1.TypedStruct`),
  'per-route settings of HTTP filters': types(`
    envoy.config.route.v3.FilterConfig E.filters.http.buffer.v3.BufferPerRoute E.filters.http.cors.v3.CorsPolicy
    E.filters.http.header_mutation.v3.HeaderMutationPerRoute E.filters.http.on_demand.v3.PerRouteConfig
    E.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute E.filters.http.basic_auth.v3.BasicAuthPerRoute
    E.filters.http.compressor.v3.CompressorPerRoute E.filters.http.csrf.v3.CsrfPolicy
    E.filters.http.dynamic_modules.v3.DynamicModuleFilterPerRoute E.filters.http.ext_authz.v3.ExtAuthzPerRoute
    E.filters.http.ext_proc.v3.ExtProcPerRoute E.filters.http.fault.v3.HTTPFault E.filters.http.jwt_authn.v3.PerRouteConfig
    E.filters.http.bandwidth_limit.v3.BandwidthLimit
    E.filters.http.local_ratelimit.v3.LocalRateLimit E.filters.http.lua.v3.LuaPerRoute E.filters.http.oauth2.v3.OAuth2PerRoute
    E.filters.http.ratelimit.v3.RateLimitPerRoute E.filters.http.rbac.v3.RBACPerRoute
    E.filters.http.dynamic_forward_proxy.v3.PerRouteConfig
    E.filters.http.stateful_session.v3.StatefulSessionPerRoute udpa.type.v1.TypedStruct`),
  'upstream HTTP filters': types(`
    E.filters.http.upstream_codec.v3.UpstreamCodec E.filters.http.credential_injector.v3.CredentialInjector
    E.filters.http.admission_control.v3.AdmissionControl E.filters.http.buffer.v3.Buffer E.filters.http.cors.v3.Cors
    E.filters.http.header_mutation.v3.HeaderMutation
    E.filters.http.aws_lambda.v3.Config E.filters.http.aws_request_signing.v3.AwsRequestSigning`),
  'injected credentials': types(
    'E.http.injected_credentials.generic.v3.Generic E.http.injected_credentials.oauth2.v3.OAuth2',
  ),
  'network filters': types(`
    E.filters.network.http_connection_manager.v3.HttpConnectionManager E.filters.network.tcp_proxy.v3.TcpProxy
    E.filters.network.connection_limit.v3.ConnectionLimit E.filters.network.direct_response.v3.Config
    E.filters.network.echo.v3.Echo E.filters.network.local_ratelimit.v3.LocalRateLimit E.filters.network.rbac.v3.RBAC
    E.filters.network.set_filter_state.v3.Config E.filters.network.sni_cluster.v3.SniCluster
    E.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig E.filters.network.mongo_proxy.v3.MongoProxy
    E.filters.network.wasm.v3.Wasm envoy.tcp.metadataexchange.config.MetadataExchange stats.PluginConfig
    udpa.type.v1.TypedStruct`),
  'listener filters': types(`
    E.filters.listener.http_inspector.v3.HttpInspector E.filters.listener.local_ratelimit.v3.LocalRateLimit
    E.filters.listener.original_dst.v3.OriginalDst E.filters.listener.original_src.v3.OriginalSrc
    E.filters.listener.proxy_protocol.v3.ProxyProtocol E.filters.listener.tls_inspector.v3.TlsInspector
    E.filters.udp.udp_proxy.v3.UdpProxyConfig`),
  'filters that are delivered': types(`
    E.filters.http.buffer.v3.Buffer E.filters.http.cors.v3.Cors E.filters.network.sni_cluster.v3.SniCluster
    E.filters.network.tcp_proxy.v3.TcpProxy E.filters.listener.tls_inspector.v3.TlsInspector E.filters.http.wasm.v3.Wasm`),
  'transport sockets of listeners': types(`
    E.transport_sockets.raw_buffer.v3.RawBuffer E.transport_sockets.tls.v3.DownstreamTlsContext
    E.transport_sockets.quic.v3.QuicDownstreamTransport`),
  'transport sockets of clusters': types(`
    E.transport_sockets.raw_buffer.v3.RawBuffer E.transport_sockets.tls.v3.UpstreamTlsContext
    E.transport_sockets.http_11_proxy.v3.Http11ProxyUpstreamTransport
    E.transport_sockets.internal_upstream.v3.InternalUpstreamTransport
    E.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport`),
  'certificate validators': types('E.transport_sockets.tls.v3.SPIFFECertValidatorConfig'),
  'cluster types': types(`
    E.clusters.dns.v3.DnsCluster E.clusters.dynamic_forward_proxy.v3.ClusterConfig E.clusters.aggregate.v3.ClusterConfig
    E.clusters.composite.v3.ClusterConfig E.clusters.original_dst.v3.OriginalDstCluster`),
  'load balancing policies': types(`
    E.load_balancing_policies.round_robin.v3.RoundRobin E.load_balancing_policies.random.v3.Random
    E.load_balancing_policies.least_request.v3.LeastRequest E.load_balancing_policies.maglev.v3.Maglev
    E.load_balancing_policies.ring_hash.v3.RingHash E.load_balancing_policies.override_host.v3.OverrideHost
    E.load_balancing_policies.client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin
    E.load_balancing_policies.cluster_provided.v3.ClusterProvided E.load_balancing_policies.wrr_locality.v3.WrrLocality
    E.load_balancing_policies.subset.v3.Subset`),
  'upstream protocol options': types('E.upstreams.http.v3.HttpProtocolOptions'),
  'DNS resolvers': types(`
    E.network.dns_resolver.cares.v3.CaresDnsResolverConfig E.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig
    E.network.dns_resolver.apple.v3.AppleDnsResolverConfig E.network.dns_resolver.hickory.v3.HickoryDnsResolverConfig`),
  'access loggers': types(`
    E.access_loggers.file.v3.FileAccessLog E.access_loggers.stream.v3.StdoutAccessLog
    E.access_loggers.stream.v3.StderrAccessLog E.access_loggers.grpc.v3.HttpGrpcAccessLogConfig
    E.access_loggers.grpc.v3.TcpGrpcAccessLogConfig E.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig`),
  'access log filters': types('E.access_loggers.filters.cel.v3.ExpressionFilter'),
  formatters: types(`
    E.formatter.metadata.v3.Metadata E.formatter.req_without_query.v3.ReqWithoutQuery E.formatter.cel.v3.Cel`),
  'original IP detection': types(`
    E.http.original_ip_detection.xff.v3.XffConfig E.http.original_ip_detection.custom_header.v3.CustomHeaderConfig`),
  'early header mutation': types('E.http.early_header_mutation.header_mutation.v3.HeaderMutation'),
  'header formatters': types('E.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig'),
  'request ids': types('E.request_id.uuid.v3.UuidRequestIdConfig'),
  'path matches': types('E.path.match.uri_template.v3.UriTemplateMatchConfig'),
  'path rewrites': types('E.path.rewrite.uri_template.v3.UriTemplateRewriteConfig'),
  'matcher inputs': types(`
    envoy.type.matcher.v3.HttpRequestHeaderMatchInput envoy.type.matcher.v3.HttpRequestQueryParamMatchInput
    envoy.type.matcher.v3.HttpRequestTrailerMatchInput envoy.type.matcher.v3.HttpResponseHeaderMatchInput
    envoy.type.matcher.v3.HttpResponseLocalReplyMatchInput envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput
    E.matching.common_inputs.network.v3.ApplicationProtocolInput E.matching.common_inputs.network.v3.DestinationIPInput
    E.matching.common_inputs.network.v3.DestinationPortInput E.matching.common_inputs.network.v3.DirectSourceIPInput
    E.matching.common_inputs.network.v3.DynamicMetadataInput E.matching.common_inputs.network.v3.FilterStateInput
    E.matching.common_inputs.network.v3.ServerNameInput E.matching.common_inputs.network.v3.SourceIPInput
    E.matching.common_inputs.network.v3.SourcePortInput E.matching.common_inputs.network.v3.SourceTypeInput
    E.matching.common_inputs.network.v3.TransportProtocolInput E.matching.common_inputs.ssl.v3.DnsSanInput
    E.matching.common_inputs.ssl.v3.SubjectInput E.matching.common_inputs.ssl.v3.UriSanInput
    xds.type.matcher.v3.HttpAttributesCelMatchInput`),
  'input matchers': types(`
    xds.type.matcher.v3.IPMatcher xds.type.matcher.v3.CelMatcher E.matching.input_matchers.ip.v3.Ip
    E.matching.input_matchers.metadata.v3.Metadata`),
  'matcher actions': types(`
    google.protobuf.StringValue envoy.config.route.v3.Route envoy.config.rbac.v3.Action
    E.filters.network.http_connection_manager.v3.HttpConnectionManager.ForwardClientCertConfig
    E.filters.http.composite.v3.ExecuteFilterAction E.filters.udp.udp_proxy.v3.Route`),
  'RBAC principals': types('E.rbac.principals.mtls_authenticated.v3.Config'),
  'RBAC audit loggers': types('E.rbac.audit_loggers.stream.v3.StdoutAuditLog'),
  tracers: types(`
    envoy.config.trace.v3.DatadogConfig envoy.config.trace.v3.OpenTelemetryConfig envoy.config.trace.v3.ZipkinConfig`),
  'parts of tracers': types(`
    E.tracers.opentelemetry.resource_detectors.v3.EnvironmentResourceDetectorConfig
    E.tracers.opentelemetry.resource_detectors.v3.StaticConfigResourceDetectorConfig
    E.tracers.opentelemetry.samplers.v3.AlwaysOnSamplerConfig E.tracers.opentelemetry.samplers.v3.ParentBasedSamplerConfig
    E.tracers.opentelemetry.samplers.v3.TraceIdRatioBasedSamplerConfig`),
  'compressor libraries': types(`
    E.compression.brotli.compressor.v3.Brotli E.compression.gzip.compressor.v3.Gzip E.compression.zstd.compressor.v3.Zstd`),
  'stateful sessions': types(`
    E.http.stateful_session.cookie.v3.CookieBasedSessionState E.http.stateful_session.header.v3.HeaderBasedSessionState
    E.http.stateful_session.envelope.v3.EnvelopeSessionState`),
  'retry host predicates': types(`
    E.retry.host.previous_hosts.v3.PreviousHostsPredicate E.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate
    E.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig`),
  'retry priorities': types('E.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig'),
  'internal redirect predicates': types(`
    E.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig
    E.internal_redirect.filter_state.v3.FilterStateConfig
    E.internal_redirect.previous_routes.v3.PreviousRoutesConfig E.internal_redirect.safe_cross_scheme.v3.SafeCrossSchemeConfig`),
  'health check event sinks': types('E.health_check.event_sinks.file.v3.HealthCheckEventFileSink'),
  'health checkers': types('E.health_checkers.redis.v3.Redis E.health_checkers.thrift.v3.Thrift'),
  'outlier detection monitors': types('E.outlier_detection_monitors.consecutive_errors.v3.ConsecutiveErrors'),
  'bootstrap extensions': types('E.bootstrap.internal_listener.v3.InternalListener E.wasm.v3.WasmService'),
  'regex engines': types('E.regex_engines.v3.GoogleRE2'),
  'listener managers': types('envoy.config.listener.v3.ListenerManager'),
  'resource monitors': types(`
    E.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
    E.resource_monitors.fixed_heap.v3.FixedHeapConfig E.resource_monitors.cgroup_memory.v3.CgroupMemoryConfig
    E.resource_monitors.cpu_utilization.v3.CpuUtilizationConfig
    E.resource_monitors.injected_resource.v3.InjectedResourceConfig`),
  'settings of overload actions': types(
    'envoy.config.overload.v3.ScaleTimersOverloadActionConfig envoy.config.overload.v3.ShrinkHeapConfig',
  ),
  'key value stores': types('E.key_value.file_based.v3.FileBasedKeyValueStoreConfig'),
  'gRPC credentials': types('envoy.config.grpc_credential.v3.FileBasedMetadataConfig'),
  'validators of updates': types('E.config.validators.minimum_clusters.v3.MinimumClustersValidator'),
  others: types('envoy.config.core.v3.Node'),
  'metadata of endpoints': types('envoy.config.core.v3.Address envoy.config.core.v3.PerHostConfig'),
}

/** Of which there is none here: one type that is something else stands for all. */
const NONE = 'others'

const H = 'envoy.extensions.filters.network.http_connection_manager.v3'
const LISTENER = 'envoy.config.listener.v3'
const ROUTE = 'envoy.config.route.v3'
const CLUSTER = 'envoy.config.cluster.v3'
const CORE = 'envoy.config.core.v3'
const TLS = 'envoy.extensions.transport_sockets.tls.v3'
const BOOTSTRAP = 'envoy.config.bootstrap.v3.Bootstrap'

/** Extension points by `type.field`, or `type.field>type.field` where the message is reached by the first. */
export const EDGES: Readonly<Record<string, string>> = {
  [`${H}.HttpFilter.typed_config`]: 'HTTP filters',
  [`${H}.HttpConnectionManager.http_filters>${H}.HttpFilter.typed_config`]: 'HTTP filters',
  [`envoy.extensions.upstreams.http.v3.HttpProtocolOptions.http_filters>${H}.HttpFilter.typed_config`]:
    'upstream HTTP filters',
  [`${H}.HttpConnectionManager.original_ip_detection_extensions`]: 'original IP detection',
  [`${H}.HttpConnectionManager.early_header_mutation_extensions`]: 'early header mutation',
  [`${H}.HttpConnectionManager.typed_header_validation_config`]: NONE,
  [`${H}.RequestIDExtension.typed_config`]: 'request ids',
  [`${LISTENER}.Filter.typed_config`]: 'network filters',
  [`${LISTENER}.ListenerFilter.typed_config`]: 'listener filters',
  [`${CORE}.TransportSocket.typed_config`]: 'transport sockets of clusters',
  [`${LISTENER}.FilterChain.transport_socket>${CORE}.TransportSocket.typed_config`]: 'transport sockets of listeners',
  [`${ROUTE}.RouteConfiguration.typed_per_filter_config`]: 'per-route settings of HTTP filters',
  [`${ROUTE}.VirtualHost.typed_per_filter_config`]: 'per-route settings of HTTP filters',
  [`${ROUTE}.Route.typed_per_filter_config`]: 'per-route settings of HTTP filters',
  [`${ROUTE}.WeightedCluster.ClusterWeight.typed_per_filter_config`]: 'per-route settings of HTTP filters',
  [`${ROUTE}.FilterConfig.config`]: 'per-route settings of HTTP filters',
  [`${ROUTE}.RouteConfiguration.route_specifiers`]: NONE,
  [`${ROUTE}.RouteConfiguration.cluster_specifier_plugins`]: NONE,
  [`${ROUTE}.VirtualHost.route_specifiers`]: NONE,
  [`${ROUTE}.VirtualHost.retry_policy_typed_config`]: NONE,
  [`${ROUTE}.Route.route_specifiers`]: NONE,
  [`${ROUTE}.RouteMatch.path_match_policy`]: 'path matches',
  [`${ROUTE}.RouteAction.path_rewrite_policy`]: 'path rewrites',
  [`${ROUTE}.RouteAction.early_data_policy`]: NONE,
  [`${ROUTE}.RouteAction.retry_policy_typed_config`]: NONE,
  [`${CLUSTER}.Cluster.typed_extension_protocol_options`]: 'upstream protocol options',
  [`${CLUSTER}.Cluster.typed_dns_resolver_config`]: 'DNS resolvers',
  [`${CLUSTER}.Cluster.upstream_config`]: NONE,
  [`${CLUSTER}.Cluster.CustomClusterType.typed_config`]: 'cluster types',
  [`${CLUSTER}.LoadBalancingPolicy.Policy.typed_extension_config`]: 'load balancing policies',
  [`${CLUSTER}.Filter.typed_config`]: NONE,
  ['envoy.extensions.upstreams.http.v3.HttpProtocolOptions.header_validation_config']: NONE,
  ['envoy.extensions.filters.http.credential_injector.v3.CredentialInjector.credential']: 'injected credentials',
  ['envoy.config.accesslog.v3.AccessLog.typed_config']: 'access loggers',
  ['envoy.config.accesslog.v3.ExtensionFilter.typed_config']: 'access log filters',
  [`${CORE}.BindConfig.local_address_selector`]: NONE,
  [`${CORE}.Http1ProtocolOptions.HeaderKeyFormat.stateful_formatter`]: 'header formatters',
  [`${CORE}.Metadata.typed_filter_metadata`]: 'metadata of endpoints',
  [`${CORE}.SubstitutionFormatString.formatters`]: 'formatters',
  [`${CORE}.TypedExtensionConfig.typed_config`]: 'filters that are delivered',
  [`${CORE}.ExtensionConfigSource.default_config`]: 'filters that are delivered',
  ['envoy.extensions.filters.http.header_mutation.v3.Mutations.formatters']: 'formatters',
  ['envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TunnelingConfig.formatters']: 'formatters',
  ['envoy.type.matcher.v3.StringMatcher.custom']: NONE,
  ['xds.type.matcher.v3.StringMatcher.custom']: NONE,
  [`${TLS}.CertificateValidationContext.custom_validator_config`]: 'certificate validators',
  ['xds.type.matcher.v3.Matcher.OnMatch.action']: 'matcher actions',
  ['xds.type.matcher.v3.Matcher.MatcherTree.input']: 'matcher inputs',
  ['xds.type.matcher.v3.Matcher.MatcherTree.custom_match']: 'input matchers',
  ['xds.type.matcher.v3.Matcher.MatcherList.Predicate.SinglePredicate.input']: 'matcher inputs',
  ['xds.type.matcher.v3.Matcher.MatcherList.Predicate.SinglePredicate.custom_match']: 'input matchers',
  [`${BOOTSTRAP}.typed_dns_resolver_config`]: 'DNS resolvers',
  [`${BOOTSTRAP}.bootstrap_extensions`]: 'bootstrap extensions',
  [`${BOOTSTRAP}.certificate_provider_instances`]: NONE,
  [`${BOOTSTRAP}.default_regex_engine`]: 'regex engines',
  [`${BOOTSTRAP}.xds_delegate_extension`]: NONE,
  [`${BOOTSTRAP}.xds_config_tracker_extension`]: NONE,
  [`${BOOTSTRAP}.listener_manager`]: 'listener managers',
  ['envoy.extensions.common.dynamic_forward_proxy.v3.DnsCacheConfig.typed_dns_resolver_config']: 'DNS resolvers',
  ['envoy.extensions.clusters.dns.v3.DnsCluster.typed_dns_resolver_config']: 'DNS resolvers',
  ['envoy.config.common.key_value.v3.KeyValueStoreConfig.config']: 'key value stores',
  ['envoy.config.rbac.v3.Permission.matcher']: NONE,
  ['envoy.config.rbac.v3.Permission.uri_template']: 'path matches',
  ['envoy.config.rbac.v3.Principal.custom']: 'RBAC principals',
  [`${TLS}.CommonTlsContext.custom_tls_certificate_selector`]: NONE,
  [`${TLS}.CommonTlsContext.custom_handshaker`]: NONE,
  ['envoy.config.trace.v3.Tracing.Http.typed_config']: 'tracers',
  ['envoy.config.trace.v3.OpenTelemetryConfig.resource_detectors']: 'parts of tracers',
  ['envoy.config.trace.v3.OpenTelemetryConfig.sampler']: 'parts of tracers',
  ['envoy.extensions.filters.http.compressor.v3.Compressor.compressor_library']: 'compressor libraries',
  ['envoy.extensions.filters.http.stateful_session.v3.StatefulSession.session_state']: 'stateful sessions',
  [`envoy.extensions.filters.http.stateful_session.v3.StatefulSession.session_state>${CORE}.TypedExtensionConfig.typed_config`]:
    'stateful sessions',
  ['envoy.config.rbac.v3.RBAC.AuditLoggingOptions.AuditLoggerConfig.audit_logger']: 'RBAC audit loggers',
  ['envoy.config.cluster.v3.OutlierDetection.monitors']: 'outlier detection monitors',
  [`${CORE}.HealthCheck.CustomHealthCheck.typed_config`]: 'health checkers',
  [`${CORE}.HealthCheck.event_logger`]: 'health check event sinks',
  [`${CORE}.ApiConfigSource.config_validators`]: 'validators of updates',
  [`${CORE}.GrpcService.GoogleGrpc.channel_credentials_plugin`]: NONE,
  [`${CORE}.GrpcService.GoogleGrpc.call_credentials_plugin`]: NONE,
  [`${ROUTE}.RateLimit.Action.extension`]: 'matcher inputs',
  [`${ROUTE}.FilterAction.action`]: NONE,
  [`${ROUTE}.ClusterSpecifierPlugin.extension`]: NONE,
  [`${ROUTE}.RetryPolicy.retry_options_predicates`]: NONE,
  [`${ROUTE}.RetryPolicy.RetryPriority.typed_config`]: 'retry priorities',
  [`${ROUTE}.RetryPolicy.RetryHostPredicate.typed_config`]: 'retry host predicates',
  [`${ROUTE}.InternalRedirectPolicy.predicates`]: 'internal redirect predicates',
  ['envoy.config.overload.v3.ResourceMonitor.typed_config']: 'resource monitors',
  ['envoy.config.overload.v3.OverloadAction.typed_config']: 'settings of overload actions',
  [`${CORE}.GrpcService.GoogleGrpc.CallCredentials.MetadataCredentialsFromPlugin.typed_config`]: 'gRPC credentials',
}
