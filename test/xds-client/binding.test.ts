import t from 'tap'
import type { HttpConnectionManagerConfig, ListenerConfig } from '../../lib/config/listener.ts'
import type { CertificateConfig, DownstreamTlsConfig, UpstreamTlsConfig } from '../../lib/tls/config.ts'
import type { ClusterConfig } from '../../lib/upstream/config.ts'
import { bindAssignment, bindCluster, bindListener, bindTls, extensionProblem } from '../../xds-client/envoy/binding.ts'
import { mergeValidation } from '../../xds-client/envoy/tls/merge-validation.ts'
import type { ExtensionConfig, SecretValue } from '../../xds-client/envoy/translated.ts'

const CERTIFICATE: CertificateConfig = { certificateChain: 'chain', privateKey: 'key' }
const EMPTY = { systemRoots: false, sans: [], acceptUntrusted: false }
const COMMON = { certificates: [], alpn: [], minVersion: 'TLSv1.2', maxVersion: 'TLSv1.3', groups: [] } as const

const SERVER: DownstreamTlsConfig = {
  ...COMMON,
  requireClientCertificate: false,
  handshakeTimeoutMs: 1,
  sessionTickets: true,
}
const CLIENT: UpstreamTlsConfig = { ...COMMON, sni: '', autoSni: 'none', autoSanValidation: false, maxSessionKeys: 1 }

const SAN = { type: 'dns', match: { kind: 'exact', value: 'a', ignoreCase: false } } as const
const OTHER_SAN = { type: 'dns', match: { kind: 'exact', value: 'b', ignoreCase: false } } as const

function validation(more: object = {}, legacySans?: true): Extract<SecretValue, { kind: 'validation' }> {
  return { kind: 'validation', name: 'ca', validation: { ...EMPTY, ...more }, ...(legacySans && { legacySans }) }
}

function lookup(...secrets: readonly SecretValue[]): (key: string) => SecretValue | undefined {
  return (key) => secrets.find(({ name }) => name === key)
}

const NOTHING = { secrets: () => undefined, extensions: () => undefined, scopes: () => [] }

t.test('what has no placeholder comes back as the very object', async (t) => {
  const listener = {
    filterChains: [{ tls: SERVER, networkFilters: [{ name: 'n', typeUrl: 't', config: null }] }],
    listenerFilters: [],
  } as unknown as ListenerConfig
  t.equal(bindListener(listener, NOTHING), listener)
  const cluster = {
    name: 'c',
    tls: CLIENT,
    transportMatches: [{ transport: { tls: CLIENT } }],
  } as unknown as ClusterConfig
  t.equal(
    bindCluster(cluster, () => undefined),
    cluster,
  )
  const assignment = { name: 'a', localities: [{ priority: 0, endpoints: [] }] }
  t.equal(
    bindAssignment(assignment, () => undefined),
    assignment,
  )
})

t.test('secrets take the places that wait for them, after what the context has itself', async (t) => {
  const own = { ...CERTIFICATE, certificateChain: 'own' }
  const tls: DownstreamTlsConfig = {
    ...SERVER,
    certificates: [own],
    secrets: { certificates: ['one', 'two'], validation: 'ca', ticketKeys: 'keys' },
  }
  const one: SecretValue = { kind: 'certificate', name: 'one', certificate: CERTIFICATE }
  const two: SecretValue = { kind: 'certificate', name: 'two', certificate: CERTIFICATE }
  const keys: SecretValue = { kind: 'ticket-keys', name: 'keys', keys: ['k'] }
  const bound = bindTls(tls, lookup(one, two, keys, validation({ trustedCa: 'ca' })))
  t.same(bound, {
    ...SERVER,
    certificates: [own, CERTIFICATE, CERTIFICATE],
    validation: { ...EMPTY, trustedCa: 'ca' },
    ticketKeys: ['k'],
  })
  for (const missing of ['one', 'two', 'keys', 'ca']) {
    const rest = [one, two, keys, validation({ trustedCa: 'ca' })].filter(({ name }) => name !== missing)
    t.equal(bindTls(tls, lookup(...rest)).notReady, true, `${missing} is missing`)
  }
  t.equal(bindTls(tls, lookup({ ...keys, name: 'one' }, two, keys)).notReady, true, 'of another kind')
})

t.test('a context never goes on unverified where it was to be verified', async (t) => {
  const waiting: UpstreamTlsConfig = { ...CLIENT, secrets: { certificates: [], validation: 'ca' } }
  const named: UpstreamTlsConfig = { ...waiting, validation: { ...EMPTY, sans: [SAN] } }
  t.match(bindTls(named, lookup()), { notReady: true, validation: undefined })
  t.equal(bindTls(named, lookup(validation())).notReady, true, 'names, and nobody to trust')
  t.match(bindTls(named, lookup(validation({ trustedCa: 'x' }))), { validation: { trustedCa: 'x', sans: [SAN] } })
  const revoking: UpstreamTlsConfig = { ...waiting, validation: { ...EMPTY, crl: 'list' } }
  t.equal(bindTls(revoking, lookup(validation({ trustedCa: 'x', allowExpired: true }))).notReady, true)
  const automatic: UpstreamTlsConfig = { ...waiting, autoSanValidation: true, sni: 's' }
  t.equal(bindTls(automatic, lookup(validation({ hashes: ['h'] }))).notReady, true)
  t.same(bindTls(automatic, lookup(validation({ trustedCa: 'x', sans: [SAN] }))).validation?.sans, [])
  const server: DownstreamTlsConfig = {
    ...SERVER,
    requireClientCertificate: true,
    secrets: { certificates: [], validation: 'ca' },
  }
  t.match(bindTls(server, lookup({ kind: 'validation', name: 'ca', validation: undefined })).validation, {
    acceptUntrusted: true,
  })
})

t.test('a combined context is merged as protobuf merges', async (t) => {
  const own = { ...EMPTY, trustedCa: 'own', sans: [SAN], hashes: ['1'], maxDepth: 1, crl: 'own' }
  t.same(mergeValidation(own, validation({ trustedCa: 'new', sans: [OTHER_SAN], hashes: ['2'] }), false), {
    ...EMPTY,
    trustedCa: 'new',
    sans: [SAN, OTHER_SAN],
    crl: 'own',
    hashes: ['1', '2'],
    maxDepth: 1,
  })
  t.same(mergeValidation({ ...EMPTY, systemRoots: true }, validation({ trustedCa: 'x' }), false)?.systemRoots, false)
  t.match(mergeValidation(own, validation({ acceptUntrusted: true, allowExpired: true }), false), {
    acceptUntrusted: true,
    allowExpired: true,
  })
  const domains = [{ name: 'd', trustedCa: 'x' }]
  t.match(mergeValidation(own, validation({ trustDomains: domains }), false), {
    trustDomains: domains,
    trustedCa: undefined,
  })
  t.same(mergeValidation(own, validation({ sans: [OTHER_SAN] }), true)?.sans, [OTHER_SAN], 'deprecated default names')
  t.same(
    mergeValidation(own, validation({ sans: [OTHER_SAN] }, true), false)?.sans,
    [SAN],
    'deprecated delivered names',
  )
  t.equal(
    mergeValidation({ ...EMPTY, maxDepth: 3 }, validation(), false),
    undefined,
    'rules for chains, and none to verify',
  )
})

t.test('a credential is its prefix and the secret, without the white space that files end with', async (t) => {
  const credential = {
    header: 'authorization',
    value: '',
    overwrite: true,
    required: true,
    secret: 'token',
    prefix: 'Bearer ',
  }
  const cluster = { name: 'c', credential } as unknown as ClusterConfig
  const value = Buffer.from('abc\n').toString('base64')
  const secret: SecretValue = { kind: 'generic', name: 'token', value, values: new Map() }
  t.same(bindCluster(cluster, lookup(secret)).credential, {
    header: 'authorization',
    value: 'Bearer abc',
    overwrite: true,
    required: true,
  })
  t.equal(bindCluster(cluster, lookup()).credential?.value, '')
  const of = (text: string): string | undefined => {
    const other: SecretValue = { ...secret, value: Buffer.from(text).toString('base64') }
    return bindCluster(cluster, lookup(other)).credential?.value
  }
  t.equal(of(' \n'), '', 'an empty secret is none, whatever stands before it')
  for (const text of ['a\r\nx: y', 'a\nb', 'a\0b']) t.equal(of(text), '', 'what no header can say is none')
})

t.test('filters, scopes and endpoints take their places', async (t) => {
  const late = { name: 'late', typeUrl: '', config: null, missing: true, extension: 'late', disabled: true }
  const fallback = { name: 'other', typeUrl: 'd', config: 'default', extension: 'other', disabled: false }
  const scopes = [{ name: 's', key: ['k'], routeTable: 'r' }]
  const http = { filters: [late, fallback], scopedRoutes: { name: 'n', key: [], scopes: [], delivered: '*>' } }
  const listener = { filterChains: [{ http, networkFilters: [] }], listenerFilters: [] } as unknown as ListenerConfig
  const extension: ExtensionConfig = {
    name: 'late',
    place: 'http',
    sentType: 't',
    typeUrl: 't',
    config: 1,
    terminal: false,
  }
  const bound = bindListener(listener, {
    ...NOTHING,
    extensions: (key) => (key === 'late' ? extension : undefined),
    scopes: (key) => (key === '*>' ? scopes : []),
  }).filterChains[0].http as HttpConnectionManagerConfig
  t.same(bound.filters, [
    { name: 'late', typeUrl: 't', config: 1, disabled: true },
    { name: 'other', typeUrl: 'd', config: 'default', disabled: false },
  ])
  t.same(bound.scopedRoutes, { name: 'n', key: [], scopes })
  const missing = bindListener(listener, NOTHING).filterChains[0].http?.filters[0]
  t.same(missing, { name: 'late', typeUrl: '', config: null, missing: true, disabled: true })
  const endpoint = { address: { kind: 'ip', host: '192.0.2.1', port: 1 }, weight: 1, health: 'healthy' } as const
  const assignment = { name: 'a', localities: [{ priority: 0, endpoints: [], delivered: 'x' }] }
  t.same(bindAssignment(assignment, () => [endpoint]).localities, [{ priority: 0, endpoints: [endpoint] }])
  t.same(bindAssignment(assignment, () => undefined).localities, [{ priority: 0, endpoints: [] }])
})

t.test('a filter that was delivered fits where its kind, its type and its place in the chain do', async (t) => {
  const wanted = { place: 'network', typeUrls: ['t'], last: true } as const
  const extension: ExtensionConfig = {
    name: 'x',
    place: 'network',
    sentType: 't',
    typeUrl: 't',
    config: {},
    terminal: true,
  }
  t.equal(extensionProblem(extension, wanted), undefined)
  t.match(extensionProblem({ ...extension, place: 'http' }, wanted), /is a http filter/)
  t.match(extensionProblem({ ...extension, sentType: 'u' }, wanted), /has the type "u"/)
  t.match(extensionProblem({ ...extension, terminal: false }, wanted), /does not end the filter chain/)
  t.match(extensionProblem(extension, { ...wanted, last: false }), /others come after it/)
})
