import { readFileSync } from 'node:fs'
import { connect as connectTcp, type Socket } from 'node:net'
import { join } from 'node:path'
import { connect } from 'node:tls'
import t from 'tap'
import { networkRbac } from '../../filters/network-rbac/index.ts'
import type { NetworkConnection, NetworkFilter, NetworkScope } from '../../lib/chain/network.ts'
import type { ConnectionInfo } from '../../lib/core/connection.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { StreamInfo } from '../../lib/core/stream-info.ts'
import { Authority, type Issued } from '../support/certificates.ts'
import { parseJson, type TestScope, testScope } from '../support/chain-driver.ts'
import { settle, type TestClock } from '../support/clock.ts'
import { TestGateway } from '../support/gateway.ts'
import { connection, peer, tlsInfo } from '../support/peers.ts'

/** Writes down what the filter does to it. */
class FakeConnection implements NetworkConnection {
  readonly facts: ConnectionInfo
  readonly info = new StreamInfo(0, 0)
  readonly done: string[] = []
  readonly drained = true

  constructor(facts: ConnectionInfo) {
    this.facts = facts
  }

  spent(): void {}

  write(): boolean {
    throw new Error('the filter never writes')
  }

  end(): void {
    this.done.push('end')
  }

  close(details: string): void {
    this.done.push(`close ${details}`)
  }

  reset(details: string): void {
    this.done.push(`reset ${details}`)
  }

  pause(): void {
    this.done.push('pause')
  }

  resume(): void {
    this.done.push('resume')
  }
}

interface Made {
  readonly filter: NetworkFilter
  readonly scope: TestScope
  readonly count: (name: string) => number | undefined
}

function make(fields: JsonObject): Made {
  const { value, errors } = parseJson({ stat_prefix: 'tcp', ...fields }, networkRbac.parse)
  if (errors.length > 0) throw new Error(errors.join('; '))
  const scope = testScope()
  const network: NetworkScope = { ...scope, listenerName: 'l', openLogs: () => ({ log: () => {} }) }
  return { filter: networkRbac.compile(value, network), scope, count: (name) => scope.counters.get(name)?.v }
}

const rules = (principal: JsonObject, action = 'ALLOW', name = 'my policy'): JsonObject => ({
  action,
  policies: { [name]: { permissions: [{ any: true }], principals: [principal] } },
})
const NEAR: JsonObject = Object.freeze({ remote_ip: { address_prefix: '10.0.0.0', prefix_len: 8 } })
const near = (): FakeConnection => new FakeConnection(connection({ remoteAddress: '10.0.0.1' }))
const far = (): FakeConnection => new FakeConnection(connection({ remoteAddress: '11.0.0.1' }))

t.test('whom no policy lets in is closed before anything has been read, with the policy in the details', async (t) => {
  const { filter, count } = make({ rules: rules(NEAR) })
  const friend = near()
  t.equal(filter.onConnect?.(friend, filter.createState?.(friend)), undefined)
  t.same(friend.done, [])
  t.equal(filter.onRead, undefined, 'it does not look at bytes')
  const stranger = far()
  t.equal(filter.onConnect?.(stranger, filter.createState?.(stranger)), undefined)
  t.same(stranger.done, ['close rbac_access_denied_matched_policy[none]'])
  t.equal(count('tcp.rbac.allowed'), 1)
  t.equal(count('tcp.rbac.denied'), 1)
  const denies = make({ stat_prefix: 'tcp.', rules: rules(NEAR, 'DENY') })
  const named = near()
  denies.filter.onConnect?.(named, denies.filter.createState?.(named))
  t.same(named.done, ['close rbac_access_denied_matched_policy[my_policy]'])
  t.equal(denies.count('tcp.rbac.denied'), 1)
})

t.test('a verified certificate is known when the connection is established', async (t) => {
  const { filter } = make({ rules: rules({ authenticated: { principal_name: { exact: 'spiffe://a/b' } } }) })
  const decide = (facts: ConnectionInfo): string[] => {
    const one = new FakeConnection(facts)
    filter.onConnect?.(one, filter.createState?.(one))
    return one.done
  }
  t.same(decide(connection({ tls: tlsInfo({ peer: peer({ uriSans: ['spiffe://a/b'] }) }) })), [])
  const refused = ['close rbac_access_denied_matched_policy[none]']
  t.same(decide(connection({ tls: tlsInfo({ peer: peer() }) })), refused)
  t.same(decide(connection({ tls: tlsInfo({ peerUnverified: true }) })), refused)
  t.same(decide(connection()), refused)
})

t.test('shadow rules decide nothing and leave what they would have decided', async (t) => {
  const { filter, count } = make({ shadow_rules: rules(NEAR, 'DENY'), shadow_rules_stat_prefix: 'dry_' })
  for (const one of [near(), far(), far()]) {
    t.equal(filter.onConnect?.(one, filter.createState?.(one)), undefined)
    t.same(one.done, [])
    const metadata = one.facts.state.metadata('envoy.filters.network.rbac')
    t.same(
      metadata,
      one.facts.remoteAddress === '10.0.0.1'
        ? { dry_shadow_engine_result: 'denied', dry_shadow_effective_policy_id: 'my policy' }
        : { dry_shadow_engine_result: 'allowed' },
    )
  }
  t.equal(count('tcp.rbac.dry_shadow_denied'), 1)
  t.equal(count('tcp.rbac.dry_shadow_allowed'), 2)
  t.equal(count('tcp.rbac.allowed'), 0)
  t.equal(count('tcp.rbac.denied'), 0)
})

t.test('rules for logs let everybody in and leave a hint', async (t) => {
  const { filter } = make({ rules: rules(NEAR, 'LOG') })
  for (const [one, hint] of [
    [near(), true],
    [far(), false],
  ] as const) {
    filter.onConnect?.(one, filter.createState?.(one))
    t.same(one.done, [])
    t.same(one.facts.state.metadata('envoy.common'), { access_log_hint: hint })
  }
})

t.test('continuous enforcement decides on each chunk, and on what earlier filters have learned', async (t) => {
  const learned = { metadata: { filter: 'kind', path: [{ key: 'write' }], value: { bool_match: true } } }
  const { filter, count } = make({ rules: rules(learned, 'DENY'), enforcement_type: 'CONTINUOUS' })
  const one = near()
  const state = filter.createState?.(one)
  t.equal(filter.onConnect, undefined)
  t.equal(filter.onRead?.(one, Buffer.from('a'), false, state), undefined)
  t.equal(filter.onRead?.(one, Buffer.from('b'), false, state), undefined)
  one.facts.state.mergeMetadata('kind', { write: true })
  t.equal(filter.onRead?.(one, Buffer.from('c'), false, state), null, 'the chunk goes nowhere')
  t.same(one.done, ['close rbac_access_denied_matched_policy[my_policy]'])
  t.equal(count('tcp.rbac.allowed'), 2)
  t.equal(count('tcp.rbac.denied'), 1)
})

t.test('a refusal that is delayed holds the connection, and is forgotten when the client leaves', async (t) => {
  const { filter, scope } = make({ rules: rules(NEAR), delay_deny: '2s' })
  const clock = scope.clock as TestClock
  const patient = far()
  let passed = false
  const waiting = filter.onConnect?.(patient, filter.createState?.(patient))
  t.ok(waiting, 'later filters are not told')
  void waiting?.then(() => {
    passed = true
  })
  clock.advance(1_900)
  await settle()
  t.same(patient.done, ['pause'])
  t.equal(passed, false)
  clock.advance(200)
  await settle()
  t.same(patient.done, ['pause', 'close rbac_access_denied_matched_policy[none]'])
  t.equal(passed, true)
  const hasty = far()
  const state = filter.createState?.(hasty)
  const pending = filter.onConnect?.(hasty, state)
  filter.onClose?.(hasty, state)
  await pending
  clock.advance(5_000)
  t.same(hasty.done, ['pause'])
  t.equal(scope.wheel.armed, 0)
  const each = make({ rules: rules(NEAR), delay_deny: '1s', enforcement_type: 'CONTINUOUS' })
  const late = far()
  const chunk = each.filter.onRead?.(late, Buffer.from('x'), false, each.filter.createState?.(late))
  ;(each.scope.clock as TestClock).advance(1_100)
  t.equal(await chunk, null)
  t.same(late.done, ['pause', 'close rbac_access_denied_matched_policy[none]'])
})

t.test('mistakes in the configuration are named', async (t) => {
  const errors = (fields: JsonObject): string[] => parseJson(fields, networkRbac.parse).errors
  t.match(errors({}), [/stat_prefix: must not be empty/])
  t.match(errors({ stat_prefix: 'p', enforcement_type: 'SOMETIMES' }), [/enforcement_type/])
  t.match(errors({ stat_prefix: 'p', rules: { polices: {} } }), [/polices/])
})

t.test('what only requests have is refused: a policy that denies by it would deny nobody', async (t) => {
  const errors = (fields: JsonObject): string[] => parseJson({ stat_prefix: 'p', ...fields }, networkRbac.parse).errors
  const header = { header: { name: 'x', string_match: { exact: '1' } } }
  const path = { url_path: { path: { prefix: '/admin' } } }
  const asks = (permission: JsonObject, principal: JsonObject = { any: true }): JsonObject => ({
    action: 'DENY',
    policies: { p: { permissions: [permission], principals: [principal] } },
  })
  for (const condition of [header, path]) {
    t.match(errors({ rules: asks(condition) }), [/^rules: policy "p" asks about (a header|the path)/])
    t.match(errors({ rules: asks({ any: true }, condition) }), [/^rules: policy "p"/])
    t.match(errors({ shadow_rules: asks({ not_rule: { or_rules: { rules: [condition] } } }) }), [/^shadow_rules: /])
  }
  t.same(errors({ rules: asks({ destination_port: 1 }) }), [])
  const input = (type: string, more: JsonObject): JsonObject => ({
    name: 'i',
    typed_config: { '@type': `type.googleapis.com/${type}`, ...more },
  })
  const onHeader = input('envoy.type.matcher.v3.HttpRequestHeaderMatchInput', { header_name: 'x' })
  const onQuery = input('envoy.type.matcher.v3.HttpRequestQueryParamMatchInput', { query_param: 'x' })
  const action = (name: string): JsonObject => ({
    action: input('envoy.config.rbac.v3.Action', { name, action: 'ALLOW' }),
  })
  const single = (from: JsonObject): JsonObject => ({ single_predicate: { input: from, value_match: { exact: '1' } } })
  const list = (predicate: JsonObject): JsonObject => ({
    matcher_list: { matchers: [{ predicate, on_match: action('a') }] },
  })
  t.match(errors({ matcher: list({ not_matcher: single(onHeader) }) }), [/^matcher: it asks about a header/])
  t.match(errors({ matcher: { on_no_match: { matcher: list(single(onQuery)) } } }), [/^matcher: .* a query parameter/])
  const map = { input: onHeader, exact_match_map: { map: { 1: action('b') } } }
  t.match(errors({ matcher: { matcher_tree: map } }), [/^matcher: it asks about a header/])
})

const TYPE = 'type.googleapis.com/envoy.extensions'

/** What a server says until it closes; '' where it closes at once. */
async function hear(socket: Socket): Promise<string> {
  let text = ''
  try {
    for await (const chunk of socket) text += chunk
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ECONNRESET') throw error
  }
  return text
}

/** A listener that greets whom these rules let in. */
function greeter(rbac: JsonObject, rest: JsonObject, log: string): object {
  const terminal = {
    name: 'hello',
    typed_config: {
      '@type': `${TYPE}.filters.network.direct_response.v3.Config`,
      response: { inline_string: 'hello' },
    },
  }
  return {
    static_resources: {
      listeners: [
        {
          name: 'main',
          address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
          access_log: [
            {
              name: 'file',
              typed_config: {
                '@type': `${TYPE}.access_loggers.file.v3.FileAccessLog`,
                path: log,
                log_format: {
                  text_format_source: {
                    inline_string:
                      '%CONNECTION_TERMINATION_DETAILS% %DOWNSTREAM_PEER_URI_SAN% ' +
                      '%DYNAMIC_METADATA(envoy.filters.network.rbac:shadow_engine_result)% ' +
                      '%DOWNSTREAM_TRANSPORT_FAILURE_REASON%\n',
                  },
                },
              },
            },
          ],
          filter_chains: [
            {
              filters: [
                { name: 'rbac', typed_config: { '@type': `${TYPE}.filters.network.rbac.v3.RBAC`, ...rbac } },
                terminal,
              ],
              ...rest,
            },
          ],
        },
      ],
    },
  }
}

t.test('a listener lets in the workloads that its policies name, by their verified certificates', async (t) => {
  const authority = await Authority.create()
  const server = await authority.issue({ subject: 'CN=server' })
  const friend = await authority.issue({ uri: ['spiffe://mesh/ns/a/sa/friend'] })
  const stranger = await authority.issue({ uri: ['spiffe://mesh/ns/b/sa/stranger'] })
  const named = { principal_name: { prefix: 'spiffe://mesh/ns/a/' } }
  const log = join(t.testdir(), 'connections.log')
  const gateway = await TestGateway.start(
    greeter(
      {
        stat_prefix: 'gate',
        rules: rules({ authenticated: named }, 'ALLOW', 'workloads of a'),
        shadow_rules: rules({ authenticated: named }, 'DENY'),
      },
      {
        transport_socket: {
          name: 'tls',
          typed_config: {
            '@type': `${TYPE}.transport_sockets.tls.v3.DownstreamTlsContext`,
            require_client_certificate: true,
            common_tls_context: {
              tls_certificates: [
                { certificate_chain: { inline_string: server.chain }, private_key: { inline_string: server.key } },
              ],
              validation_context: { trusted_ca: { inline_string: authority.pem } },
            },
          },
        },
      },
      log,
    ),
  )
  const greeting = (who: Issued): Promise<string> =>
    hear(connect({ port: gateway.port(), host: '127.0.0.1', cert: who.chain, key: who.key, rejectUnauthorized: false }))
  t.equal(await greeting(friend), 'hello')
  t.equal(await greeting(stranger), '')
  t.equal(await greeting(await (await Authority.create('CN=Other')).issue({})), '', 'refused by TLS')
  t.equal(gateway.stat('gate.rbac.allowed'), 1)
  t.equal(gateway.stat('gate.rbac.denied'), 1)
  t.equal(gateway.stat('gate.rbac.shadow_denied'), 1)
  t.equal(gateway.stat('gate.rbac.shadow_allowed'), 1)
  await gateway.close()
  t.match(readFileSync(log, 'utf8').trimEnd().split('\n').sort(), [
    /^- - - TLS_error:/,
    'direct_response spiffe://mesh/ns/a/sa/friend denied -',
    'rbac_access_denied_matched_policy[none] spiffe://mesh/ns/b/sa/stranger allowed -',
  ])
})

t.test('a listener in plaintext closes strangers by their address', async (t) => {
  const log = join(t.testdir(), 'connections.log')
  const local = { direct_remote_ip: { address_prefix: '127.0.0.0', prefix_len: 8 } }
  const gateway = await TestGateway.start(
    greeter({ stat_prefix: 'gate', rules: rules(local, 'DENY', 'no loopback') }, {}, log),
  )
  t.equal(await hear(connectTcp(gateway.port(), '127.0.0.1')), '')
  t.equal(gateway.stat('gate.rbac.denied'), 1)
  await gateway.close()
  t.equal(readFileSync(log, 'utf8'), 'rbac_access_denied_matched_policy[no_loopback] - - -\n')
})

t.test('verdicts are written down as lines of JSON, those that are asked for', async (t) => {
  const logger = {
    name: 'stdout',
    typed_config: { '@type': 'type.googleapis.com/envoy.extensions.rbac.audit_loggers.stream.v3.StdoutAuditLog' },
  }
  for (const [audit_condition, expected] of [
    ['ON_DENY', [false]],
    ['ON_ALLOW', [true]],
    ['ON_DENY_AND_ALLOW', [true, false]],
    ['NONE', []],
  ] as const) {
    const options = { audit_condition, logger_configs: [{ audit_logger: logger }] }
    const { filter, scope } = make({ rules: { ...rules(NEAR), audit_logging_options: options } })
    const { peer: certificate } = { peer: peer({ uriSans: ['spiffe://d/ns/n/sa/s'] }) }
    const known = new FakeConnection(connection({ remoteAddress: '10.0.0.1', tls: tlsInfo({ peer: certificate }) }))
    for (const made of [known, far()]) filter.onConnect?.(made, filter.createState?.(made))
    const told = scope.written.map((line) => JSON.parse(line).grpc_audit_log)
    t.same(
      told.map(({ authorized }) => authorized),
      expected,
      audit_condition,
    )
    t.ok(scope.written.every((line) => line.endsWith('\n')))
    if (audit_condition !== 'ON_DENY_AND_ALLOW') continue
    t.match(told[0], {
      timestamp: new Date(scope.clock.wall()).toISOString(),
      rpc_method: '',
      principal: 'spiffe://d/ns/n/sa/s',
      policy_name: 'filter',
      matched_rule: 'my policy',
      source: { address: '10.0.0.1' },
    })
    t.match(told[1], { principal: '', matched_rule: '', source: { address: '11.0.0.1' } })
  }
})
