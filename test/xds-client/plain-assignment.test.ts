import { toBinary } from '@bufbuild/protobuf'
import t, { type Test } from 'tap'
import type { Json, JsonObject } from '../../lib/core/errors.ts'
import { decodeJson } from '../../lib/proto/decode-json.ts'
import { ADS_SOURCE } from '../../xds-client/envoy/config-source.ts'
import type { EnvoyLoadContext } from '../../xds-client/envoy/load.ts'
import { readPlainAssignment } from '../../xds-client/envoy/plain-assignment.ts'
import { translateBytes } from '../../xds-client/envoy/translate-bytes.ts'
import { seeded } from '../support/random.ts'
import { LOAD_CONTEXT } from './load-context.ts'

const ASSIGNMENT = 'envoy.config.endpoint.v3.ClusterLoadAssignment'

const { registry } = LOAD_CONTEXT
const context: EnvoyLoadContext = {
  ...LOAD_CONTEXT,
  hasAds: true,
  managementClusters: new Set(['xds']),
  self: ADS_SOURCE,
}

function bytesOf(json: Json): Uint8Array {
  const desc = registry.expect(ASSIGNMENT)
  const { message, errors } = decodeJson(registry, desc, json, '')
  if (message === undefined || errors.length > 0) throw new Error(errors.join('\n'))
  return toBinary(desc, message)
}

/** An empty `policy` has no effect, and is nothing that the short way takes. */
const EMPTY_POLICY = [0x22, 0x00]

/** The same bytes both ways; answers whether the short one took them. */
function compare(t: Test, bytes: Uint8Array, what: string): boolean {
  const short = translateBytes(ASSIGNMENT, bytes, context)
  const long = translateBytes(ASSIGNMENT, Uint8Array.of(...bytes, ...EMPTY_POLICY), context)
  const said = [short, long].map(({ errors, config, ...rest }) => {
    const found = Object.entries(rest).sort(([a], [b]) => (a < b ? -1 : 1))
    // The order of keys within the configuration counts: objects of both ways should be of one shape.
    return JSON.stringify([errors.map(String), config, found])
  })
  if (said[0] !== said[1]) t.equal(said[0], said[1], what)
  return readPlainAssignment(bytes) !== undefined
}

function endpoint(address: string, port: number, more: JsonObject = {}, inner: JsonObject = {}): JsonObject {
  return { endpoint: { address: { socket_address: { address, port_value: port } }, ...inner }, ...more }
}

const PLAIN: readonly (readonly [string, JsonObject])[] = [
  ['nothing but a name', { cluster_name: 'a' }],
  ['a locality without endpoints', { cluster_name: 'a', endpoints: [{ locality: { region: 'r' } }] }],
  ['a locality that says nothing', { cluster_name: 'a', endpoints: [{ locality: {} }, { locality: {} }] }],
  [
    'places, priorities and weights',
    {
      cluster_name: 'outbound|80||web.ns.svc.cluster.local',
      endpoints: [
        {
          locality: { region: 'r', zone: 'z', sub_zone: 's' },
          load_balancing_weight: 3,
          lb_endpoints: [
            endpoint('10.0.0.1', 80, { load_balancing_weight: 128 }),
            endpoint('10.0.0.2', 0, { health_status: 'DRAINING' }),
          ],
        },
        { locality: { region: 'r', zone: 'z', sub_zone: 's' }, priority: 128, lb_endpoints: [endpoint('::1', 65_535)] },
        { lb_endpoints: [endpoint('::FFFF:10.0.0.3', 80, {}, { hostname: 'pod-0.web' })] },
      ],
    },
  ],
  [
    'every state of health',
    {
      cluster_name: 'a',
      endpoints: [
        {
          lb_endpoints: ['UNKNOWN', 'HEALTHY', 'UNHEALTHY', 'DRAINING', 'TIMEOUT', 'DEGRADED'].map((health_status, i) =>
            endpoint(`10.0.1.${i}`, 80, { health_status }),
          ),
        },
      ],
    },
  ],
]

for (const [what, json] of PLAIN) {
  t.test(`the short way takes ${what}, and says what the long one says`, async (t) => {
    t.equal(compare(t, bytesOf(json), what), true)
  })
}

const OTHERS: readonly (readonly [string, JsonObject])[] = [
  ['no name', { endpoints: [] }],
  ['a policy', { cluster_name: 'a', policy: { overprovisioning_factor: 150 } }],
  ['a name that is no IP address', { cluster_name: 'a', endpoints: [{ lb_endpoints: [endpoint('web.test', 80)] }] }],
  ['a port that is none', { cluster_name: 'a', endpoints: [{ lb_endpoints: [endpoint('10.0.0.1', 65_536)] }] }],
  [
    'a named port',
    {
      cluster_name: 'a',
      endpoints: [
        { lb_endpoints: [{ endpoint: { address: { socket_address: { address: '10.0.0.1', named_port: 'web' } } } }] },
      ],
    },
  ],
  [
    'a socket',
    { cluster_name: 'a', endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: '/x' } } } }] }] },
  ],
  ['an endpoint without address', { cluster_name: 'a', endpoints: [{ lb_endpoints: [{ endpoint: {} }] }] }],
  ['an endpoint that is none', { cluster_name: 'a', endpoints: [{ lb_endpoints: [{ health_status: 'HEALTHY' }] }] }],
  [
    'a weight of 0',
    { cluster_name: 'a', endpoints: [{ lb_endpoints: [endpoint('10.0.0.1', 80, { load_balancing_weight: 0 })] }] },
  ],
  [
    'weights that are too much together',
    {
      cluster_name: 'a',
      endpoints: [
        {
          lb_endpoints: [1, 2].map((i) => endpoint(`10.0.0.${i}`, 80, { load_balancing_weight: 0xffff_ffff })),
        },
      ],
    },
  ],
  ['a priority beyond the last', { cluster_name: 'a', endpoints: [{ priority: 129 }] }],
  ['a place twice', { cluster_name: 'a', endpoints: [{ locality: { zone: 'z' } }, {}, { locality: { zone: 'z' } }] }],
  ['letters beyond ASCII', { cluster_name: 'a', endpoints: [{ locality: { zone: 'zürich' } }] }],
  [
    'metadata',
    {
      cluster_name: 'a',
      endpoints: [
        { lb_endpoints: [endpoint('10.0.0.1', 80, { metadata: { filter_metadata: { 'envoy.lb': { v: 1 } } } })] },
      ],
    },
  ],
  [
    'addresses beside the first',
    {
      cluster_name: 'a',
      endpoints: [
        {
          lb_endpoints: [
            endpoint(
              '10.0.0.1',
              80,
              {},
              {
                additional_addresses: [{ address: { socket_address: { address: '::1', port_value: 80 } } }],
              },
            ),
          ],
        },
      ],
    },
  ],
  [
    'UDP',
    {
      cluster_name: 'a',
      endpoints: [
        {
          lb_endpoints: [
            { endpoint: { address: { socket_address: { protocol: 'UDP', address: '10.0.0.1', port_value: 80 } } } },
          ],
        },
      ],
    },
  ],
]

for (const [what, json] of OTHERS) {
  t.test(`${what} goes the long way`, async (t) => {
    t.equal(compare(t, bytesOf(json), what), false)
  })
}

t.test('bytes that are cut off, and unknown or repeated fields, go the long way', async (t) => {
  const bytes = bytesOf(PLAIN[3][1])
  let whole = 0
  for (let at = 0; at < bytes.length; at++) if (readPlainAssignment(bytes.subarray(0, at)) !== undefined) whole++
  // Between fields of the outermost message a message may end.
  t.equal(whole, 3)
  t.equal(readPlainAssignment(Uint8Array.of(...bytes, 0x78, 0x01)), undefined, 'a field that nobody knows')
  t.equal(readPlainAssignment(Uint8Array.of(...bytes, 0x0a, 0x01, 0x62)), undefined, 'a second name')
  t.equal(
    readPlainAssignment(Uint8Array.of(...bytes, 0x12, 0xff, 0xff, 0xff, 0xff, 0x0f)),
    undefined,
    'a length beyond',
  )
  t.equal(readPlainAssignment(Uint8Array.of(...bytes, 0x13)), undefined, 'a group')
})

t.test('whatever bytes the short way takes, the long way says the same of them', async (t) => {
  const random = seeded(4711)
  const sources = PLAIN.map(([, json]) => bytesOf(json))
  let taken = 0
  for (let round = 0; round < 20_000; round++) {
    const bytes = Uint8Array.from(random.pick(sources))
    for (let n = 1 + random.below(3); n > 0; n--) {
      bytes[random.below(bytes.length)] = random.below(random.below(2) === 0 ? 256 : 32)
    }
    if (readPlainAssignment(bytes) !== undefined) {
      taken++
      compare(t, bytes, `round ${round}`)
    }
  }
  t.ok(taken > 500, `${taken} of the bytes were taken`)
})
