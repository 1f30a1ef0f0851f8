/** A metric's name without its variable parts, and those parts as tags, in the order of Envoy's rules. */
export interface TaggedName {
  readonly name: string
  readonly tags: readonly (readonly [tag: string, value: string])[]
}

/**
 * Envoy's default tag rules for names that are fixed words and one variable token: `*` is any token, `$` the tag's value,
 * which leaves the name; any number of tokens may follow, but at least one. In Envoy's order, which is the order of labels.
 */
const TOKEN_RULES: readonly (readonly [tag: string, pattern: readonly string[]])[] = Object.freeze(
  (
    [
      ['envoy.grpc_bridge_method', 'cluster.*.grpc.*.$'],
      ['envoy.http_user_agent', 'http.*.user_agent.$'],
      ['envoy.virtual_cluster', 'vhost.*.vcluster.$'],
      ['envoy.fault_downstream_cluster', 'http.*.fault.$'],
      ['envoy.grpc_bridge_service', 'cluster.*.grpc.$'],
      ['envoy.tcp_prefix', 'tcp.$'],
      ['envoy.udp_prefix', 'udp.$'],
      ['envoy.clientssl_prefix', 'auth.clientssl.$'],
      ['envoy.ratelimit_prefix', 'ratelimit.$'],
      ['envoy.cluster_name', 'cluster.$'],
      ['envoy.ext_authz_prefix', 'cluster.*.ext_authz.$'],
      ['envoy.ext_authz_prefix', 'http.*.ext_authz.$'],
      ['envoy.http_conn_manager_prefix', 'http.$'],
      ['envoy.virtual_host', 'vhost.$'],
      ['envoy.route', 'vhost.*.route.$'],
      ['envoy.local_http_ratelimit_prefix', '$.http_local_rate_limit'],
      ['envoy.local_network_ratelimit_prefix', 'local_rate_limit.$'],
      ['envoy.local_listener_ratelimit_prefix', 'listener_local_ratelimit.$'],
    ] as const
  ).map(([tag, pattern]) => [tag, pattern.split('.')] as const),
)

const RESPONSE_CODE = /_rq_(\d{3})$/
const RESPONSE_CODE_CLASS = /_rq_(\d)xx$/
const TLS_WORDS: readonly (readonly [word: string, tag: string])[] = Object.freeze([
  ['curves', 'envoy.ssl_curve'],
  ['sigalgs', 'envoy.ssl_sigalg'],
  ['versions', 'envoy.ssl_version'],
])

/**
 * Splits Envoy's dotted metric name into a constant name and tags: `cluster.web.upstream_rq_503` becomes
 * `cluster.upstream_rq` with response_code 503 and cluster_name web. The rules are Envoy's defaults for the metrics this
 * proxy has; a stat prefix or cluster name that contains dots is cut at its first dot, as in Envoy.
 */
export function extractTags(metric: string): TaggedName {
  const tokens = metric.split('.')
  const kept = new Array<boolean>(tokens.length).fill(true)
  const tags: (readonly [string, string])[] = []
  takeResponseCode(tokens, tags)
  takeTlsWord(tokens, kept, tags)
  for (const [tag, pattern] of TOKEN_RULES) takeToken(tokens, kept, tags, [tag, pattern])
  if (tokens[0] === 'listener') takeListener(tokens, kept, tags)
  if (tokens[0] === 'listener_manager' || tokens[0] === 'server') takeWorker(tokens, kept, tags, 1)
  if (tokens[0] === 'http' && tokens[2] === 'rds') takeResource(tokens, kept, tags, ['envoy.rds_route_config', 3])
  if (tokens[0] === 'http' && tokens[2] === 'scoped_rds') {
    takeResource(tokens, kept, tags, ['envoy.scoped_rds_config', 3])
  }
  if (tokens[0] === 'sds') takeResource(tokens, kept, tags, ['envoy.xds_resource_name', 1])
  return { name: tokens.filter((_, i) => kept[i]).join('.'), tags }
}

type Tags = (readonly [string, string])[]

function takeResponseCode(tokens: string[], tags: Tags): void {
  const last = tokens.length - 1
  const code = RESPONSE_CODE.exec(tokens[last])
  if (code !== null) {
    tags.push(['envoy.response_code', code[1]])
    tokens[last] = tokens[last].slice(0, -4)
    return
  }
  const family = RESPONSE_CODE_CLASS.exec(tokens[last])
  if (family !== null) {
    tags.push(['envoy.response_code_class', family[1]])
    tokens[last] = `${tokens[last].slice(0, -3)}xx`
  }
}

/** `listener.<address>.ssl.curves.<curve>`, `cluster.<name>.ssl.ciphers.<cipher>` and the like. */
function takeTlsWord(tokens: readonly string[], kept: boolean[], tags: Tags): void {
  const value = tokens.length - 1
  if (value < 4 || tokens[value - 2] !== 'ssl') return
  if (tokens[0] !== 'listener' && tokens[0] !== 'cluster') return
  const word = tokens[value - 1]
  const tag =
    word === 'ciphers'
      ? tokens[0] === 'listener'
        ? 'envoy.ssl_cipher'
        : 'envoy.ssl_cipher_suite'
      : TLS_WORDS.find(([known]) => known === word)?.[1]
  if (tag === undefined) return
  tags.push([tag, tokens[value]])
  kept[value] = false
}

function takeToken(
  tokens: readonly string[],
  kept: boolean[],
  tags: Tags,
  rule: readonly [string, readonly string[]],
): void {
  const [tag, pattern] = rule
  if (tokens.length <= pattern.length) return
  let value = -1
  for (let i = 0; i < pattern.length; i++) {
    if (pattern[i] === '$') value = i
    else if (pattern[i] !== '*' && pattern[i] !== tokens[i]) return
  }
  if (!kept[value]) return
  tags.push([tag, tokens[value]])
  kept[value] = false
}

/** `listener.<address or stat prefix>.…`; an IPv4 address is four tokens. The admin listener keeps its name. */
function takeListener(tokens: string[], kept: boolean[], tags: Tags): void {
  const ipv4 = /^\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}_\d+$/.test(tokens.slice(1, 5).join('.'))
  const end = ipv4 ? 5 : 2
  if (tokens.length <= end) return
  const http = tokens.indexOf('http', end)
  if (http > 0 && http + 2 < tokens.length) {
    tags.push(['envoy.http_conn_manager_prefix', tokens[http + 1]])
    kept[http + 1] = false
  }
  takeWorker(tokens, kept, tags, end)
  const address = tokens.slice(1, end).join('.')
  if (address === 'admin') return
  tags.push(['envoy.listener_address', address])
  for (let i = 1; i < end; i++) kept[i] = false
}

/** `worker_3.x` becomes `worker_x` with the tag 3. */
function takeWorker(tokens: string[], kept: boolean[], tags: Tags, at: number): void {
  const worker = at + 1 < tokens.length ? /^worker_(\d+)$/.exec(tokens[at]) : null
  if (worker === null) return
  tags.push(['envoy.worker_id', worker[1]])
  tokens[at + 1] = `worker_${tokens[at + 1]}`
  kept[at] = false
}

/**
 * `http.<prefix>.rds.<route table>.<stat>`, `http.<prefix>.scoped_rds.<name>.<stat>`, `sds.<secret>.<stat>`: from that token on
 * all but the last are the name, which may contain dots.
 */
function takeResource(
  tokens: readonly string[],
  kept: boolean[],
  tags: Tags,
  [tag, from]: readonly [tag: string, from: number],
): void {
  const last = tokens.length - 1
  if (last <= from) return
  tags.push([tag, tokens.slice(from, last).join('.')])
  for (let i = from; i < last; i++) kept[i] = false
}
