import { once } from 'node:events'
import { connect } from 'node:http2'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Bench } from './compare-group.ts'
import type { RunningProxy } from './processes.ts'

/** How one admin answer differs. */
export interface AdminDisagreement {
  readonly what: string
  readonly found: readonly string[]
}

/** Counters whose values are not compared; each is in README.md. */
const UNCOMPARED: readonly RegExp[] = [
  // Bytes, memory and times are each implementation's own.
  /_bytes_total$|^server\.(memory|uptime|version|stats_recent|initialization|parent|total_connections|live|concurrency)/,
  /^filesystem\./,
  // Which side ends a connection, and when, is each implementation's own.
  /upstream_cx_destroy_|lb_healthy_panic$/,
  // A request for which no connection could be made counts as one here.
  /^cluster\.closed\.upstream_rq_total$/,
]

/** Names that only Headgate has. */
const OWN_PROMETHEUS: readonly RegExp[] = [
  /^envoy_(access_logs_|http_downstream_rq_(filter_error|http1_0_total|local_reply|misdirected|rejected_underscore|slow_body))/,
  /^envoy_(internal_listener_depth_exceeded|listener_downstream_source_cx_overflow|server_(file_reload_(failing|rejected|success)|resources_revoked|workers_(died|replaced|silent)))/,
  // Envoy makes it with the first assignment that drops anything.
  /^envoy_cluster_upstream_rq_drop_overload$/,
  // Guards that Envoy has not, or counts elsewhere.
  /^envoy_(http_downstream_cx_http2_setup_timeout|http2_(inbound_control_frames_flood|premature_resets|protocol_error))/,
]

/** Keys that only Headgate's answers have. */
const OWN_KEYS: { readonly [path: string]: RegExp } = {
  '/server_info': /^command_line_options\.(config|workers)$/,
  // Envoy leaves out what is empty or 0.
  '/clusters?format=json': /host_statuses\[\]\.(hostname|priority|locality\.(region|zone|sub_zone))$/,
  '/listeners?format=json': /^$/,
  // What was set and is not used; a list that is written as it is found, and may turn out empty.
  '/config_dump': /^configs\[\]\.(value(\.ignored_fields.*)?|inline_scoped_route_configs)$/,
  '/stats?format=json': /^$/,
}

/** Keys that only Envoy's answers have. */
const MISSING_KEYS: { readonly [path: string]: RegExp } = {
  '/server_info': /^(command_line_options|hot_restart_initializing|node)(\.|$)/,
  '/clusters?format=json': /^$/,
  '/listeners?format=json': /^$/,
  '/config_dump': /^configs\[\]\.bootstrap\.node\.(extensions|user_agent_)/,
  '/stats?format=json': /^$/,
}

/** Compares the admin endpoints of both after the same traffic. */
export async function compareAdmin(bench: Bench): Promise<AdminDisagreement[]> {
  const out: AdminDisagreement[] = [{ what: '/ready', found: await compareReady(bench) }]
  for (const path of Object.keys(OWN_KEYS)) out.push({ what: `keys of ${path}`, found: await compareKeys(bench, path) })
  out.push({ what: 'counters', found: await compareCounters(bench) })
  out.push({ what: 'Prometheus names and labels', found: await comparePrometheus(bench) })
  return out
}

async function compareReady({ envoy, headgate }: Bench): Promise<string[]> {
  const [left, right] = await Promise.all(
    [envoy, headgate].map(async (proxy) => {
      const answer = await fetch(`${proxy.admin}/ready`)
      return `${answer.status} ${answer.headers.get('content-type')} ${await answer.text()}`
    }),
  )
  return left === right ? [] : [`envoy ${left}, headgate ${right}`]
}

async function compareKeys({ envoy, headgate }: Bench, path: string): Promise<string[]> {
  const [left, right] = await Promise.all(
    [envoy, headgate].map(async (proxy) => keysOf(await (await fetch(proxy.admin + path)).json())),
  )
  const missing = [...left].filter((key) => !right.has(key) && !MISSING_KEYS[path].test(key))
  const own = [...right].filter((key) => !left.has(key) && !OWN_KEYS[path].test(key))
  return [...missing.map((key) => `only Envoy has ${key}`), ...own.map((key) => `only Headgate has ${key}`)]
}

function keysOf(json: unknown, path = '', into = new Set<string>()): Set<string> {
  if (Array.isArray(json)) for (const item of json) keysOf(item, `${path}[]`, into)
  else if (typeof json === 'object' && json !== null) {
    for (const [key, value] of Object.entries(json)) {
      const at = path === '' ? key : `${path}.${key}`
      into.add(at)
      keysOf(value, at, into)
    }
  }
  return into
}

/** What both count must be equal; workers report once a second, so it is asked until it is, for a while. */
async function compareCounters(bench: Bench): Promise<string[]> {
  const until = Date.now() + 5_000
  for (;;) {
    const [envoy, headgate] = await Promise.all([bench.envoy, bench.headgate].map((proxy) => counters(proxy.admin)))
    const common = [...envoy].filter(([name]) => headgate.has(name) && !UNCOMPARED.some((r) => r.test(name)))
    const found = common
      .filter(([name, value]) => headgate.get(name) !== value)
      .map(([name, value]) => `${name}: envoy ${value}, headgate ${headgate.get(name)}`)
    const counted = common.filter(([, value]) => value !== '0').length
    if (counted < 30) found.push(`only ${counted} counters that both have are not 0`)
    if (found.length === 0 || Date.now() > until) return found
    await sleep(100)
  }
}

async function counters(admin: string): Promise<Map<string, string>> {
  const text = await (await fetch(`${admin}/stats`)).text()
  return new Map(
    [...text.matchAll(/^(.*): (\d+)$/gm)].map((m) => [m[1].replace(/127\.0\.0\.1_\d+/, '<address>'), m[2]]),
  )
}

/** Envoy makes the counters of a codec with its first connection. */
async function speakHttp2(proxy: RunningProxy): Promise<void> {
  const session = connect(`http://127.0.0.1:${[...proxy.ports.values()][0]}`)
  const request = session.request({ ':path': '/' })
  request.resume()
  await once(request, 'end')
  session.close()
  await once(session, 'close')
}

/** Every name that Headgate exposes is one of Envoy's, with Envoy's labels. */
async function comparePrometheus({ envoy, headgate }: Bench): Promise<string[]> {
  for (const proxy of [envoy, headgate]) await speakHttp2(proxy)
  const [left, right] = await Promise.all(
    [envoy, headgate].map(async (p) => families(await (await fetch(`${p.admin}/stats/prometheus`)).text())),
  )
  const found: string[] = []
  for (const [name, labels] of right) {
    const theirs = left.get(name)
    if (theirs === undefined) {
      if (!OWN_PROMETHEUS.some((own) => own.test(name))) found.push(`only Headgate has ${name}`)
    } else if (theirs !== labels) found.push(`${name}: envoy ${theirs}, headgate ${labels}`)
  }
  return found
}

function families(text: string): Map<string, string> {
  const labels = new Map<string, Set<string>>()
  for (const [, name, list = ''] of text.matchAll(/^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{([^}]*)\})? /gm)) {
    const names = [...list.matchAll(/([a-z_]+)="/g)].map((m) => m[1]).sort()
    labels.set(name, (labels.get(name) ?? new Set()).add(names.join()))
  }
  return new Map([...labels].map(([name, sets]) => [name, [...sets].sort().join(' or ')]))
}
