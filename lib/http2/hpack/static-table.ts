/** Entries of the static table; the dynamic table's indices start behind them. */
export const STATIC_ENTRIES = 61

/** Names by index from 1 on (RFC 7541 Appendix A). Literals, hence the same strings as constants anywhere in the code. */
// biome-ignore format: one line per ten entries
export const STATIC_NAMES: readonly string[] = Object.freeze([
  '',
  ':authority', ':method', ':method', ':path', ':path', ':scheme', ':scheme', ':status', ':status', ':status',
  ':status', ':status', ':status', ':status', 'accept-charset', 'accept-encoding', 'accept-language', 'accept-ranges',
  'accept', 'access-control-allow-origin',
  'age', 'allow', 'authorization', 'cache-control', 'content-disposition', 'content-encoding', 'content-language',
  'content-length', 'content-location', 'content-range',
  'content-type', 'cookie', 'date', 'etag', 'expect', 'expires', 'from', 'host', 'if-match', 'if-modified-since',
  'if-none-match', 'if-range', 'if-unmodified-since', 'last-modified', 'link', 'location', 'max-forwards',
  'proxy-authenticate', 'proxy-authorization', 'range',
  'referer', 'refresh', 'retry-after', 'server', 'set-cookie', 'strict-transport-security', 'transfer-encoding',
  'user-agent', 'vary', 'via',
  'www-authenticate',
])

/** Values by index; all but these are empty. */
// biome-ignore format: as STATIC_NAMES
export const STATIC_VALUES: readonly string[] = Object.freeze([
  '',
  '', 'GET', 'POST', '/', '/index.html', 'http', 'https', '200', '204', '206',
  '304', '400', '404', '500', '', 'gzip, deflate', ...new Array<string>(45).fill(''),
])

/** What each entry adds to a header list, by index. */
export const STATIC_SIZES: Uint16Array = staticSizes()

function staticSizes(): Uint16Array {
  return Uint16Array.from(STATIC_NAMES, (name, index) => name.length + STATIC_VALUES[index].length + 32)
}

/** First index of each static name. */
export const STATIC_INDEX: ReadonlyMap<string, number> = firstIndices()

function firstIndices(): ReadonlyMap<string, number> {
  const indices = new Map<string, number>()
  for (let index = STATIC_ENTRIES; index > 0; index--) indices.set(STATIC_NAMES[index], index)
  return indices
}

/** Names that are not in the static table and still come with most requests or responses of somebody. */
// biome-ignore format: a list of words
const FREQUENT_NAMES: readonly string[] = Object.freeze([
  'access-control-allow-credentials', 'access-control-allow-headers', 'access-control-allow-methods',
  'access-control-expose-headers', 'access-control-max-age', 'access-control-request-headers',
  'access-control-request-method', 'alt-svc', 'baggage', 'content-security-policy', 'dnt', 'grpc-accept-encoding',
  'grpc-encoding', 'grpc-message', 'grpc-status', 'grpc-timeout', 'keep-alive', 'origin', 'priority', 'referrer-policy',
  'sec-ch-ua', 'sec-ch-ua-mobile', 'sec-ch-ua-platform', 'sec-fetch-dest', 'sec-fetch-mode', 'sec-fetch-site',
  'sec-fetch-user', 'te', 'traceparent', 'tracestate', 'trailer', 'upgrade-insecure-requests', 'x-api-key',
  'x-b3-parentspanid', 'x-b3-sampled', 'x-b3-spanid', 'x-b3-traceid', 'x-content-type-options',
  'x-envoy-attempt-count', 'x-envoy-decorator-operation', 'x-envoy-expected-rq-timeout-ms',
  'x-envoy-external-address', 'x-envoy-internal', 'x-envoy-original-path', 'x-envoy-upstream-service-time',
  'x-forwarded-client-cert', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-port', 'x-forwarded-proto',
  'x-frame-options', 'x-powered-by', 'x-real-ip', 'x-request-id', 'x-requested-with', 'x-xss-protection',
])

/** The constant for a name that is spelled out on the wire, so that one string serves all connections. */
export const KNOWN_NAMES: ReadonlyMap<string, string> = new Map(
  [...STATIC_NAMES, ...FREQUENT_NAMES].map((name): [string, string] => [name, name]),
)
