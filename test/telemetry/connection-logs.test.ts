import t from 'tap'
import { plainConnection } from '../../lib/core/connection.ts'
import type { JsonObject } from '../../lib/core/errors.ts'
import { flagBit } from '../../lib/core/failure.ts'
import { StreamInfo } from '../../lib/core/stream-info.ts'
import { compileAccessLogFilter } from '../../lib/telemetry/access-log-filter.ts'
import type { AccessLogConfig } from '../../lib/telemetry/config.ts'
import { ConnectionLogStream } from '../../lib/telemetry/connection-stream.ts'
import { compileFormat, FORMAT_COMMANDS } from '../../lib/telemetry/format.ts'
import { parseAccessLogs } from '../../lib/telemetry/parse.ts'
import { parseJson } from '../support/chain-driver.ts'
import { TestClock } from '../support/clock.ts'

function sample(): ConnectionLogStream {
  const facts = plainConnection({
    id: 7,
    remoteAddress: '192.0.2.1',
    remotePort: 1234,
    localAddress: '192.0.2.2',
    localPort: 443,
    kind: 'ip',
    listenerName: 'edge',
  })
  facts.state.mergeMetadata('ns', { key: 'value' })
  facts.state.setObject('obj', 'text')
  const info = new StreamInfo(1_000, Date.UTC(2024, 0, 1))
  info.bytesReceived = 3
  info.bytesSent = 4
  info.flags = flagBit('UF')
  info.endMs = 1_250
  return new ConnectionLogStream({ facts: { ...facts, serverName: 'sni.example' }, info }, 0.5)
}

const line = (format: string): string => compileFormat(format, { missing: '-', output: 'log' })(sample())

t.test('every command reads a connection, and what only requests have is missing', (t) => {
  for (const { name, needs, argument } of FORMAT_COMMANDS) {
    // What an argument may be differs; those that need one are looked at below.
    if (needs === 'argument') continue
    t.doesNotThrow(() => line(`%${name}%`), `${name}${argument}`)
  }
  t.equal(
    line('%PROTOCOL% %RESPONSE_CODE% %REQ(:AUTHORITY)% %REQ(:METHOD)% %REQ(:SCHEME)% %RESP(x)% %TRAILER(x)%'),
    '- 0 - - - - -',
  )
  t.equal(
    line('%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG% %CONNECTION_ID%'),
    '3 4 250 UF UpstreamConnectionFailure 7',
  )
  t.equal(
    line('%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_PORT% %REQUESTED_SERVER_NAME%'),
    '192.0.2.1:1234 443 sni.example',
  )
  t.equal(line('%DYNAMIC_METADATA(ns:key)% %FILTER_STATE(obj:PLAIN)% %GRPC_STATUS% %ROUTE_NAME%'), 'value text - -')
  t.end()
})

t.test('a connection is for reading alone', (t) => {
  const stream = sample()
  t.throws(() => stream.reply({ status: 200, details: '' }), /no HTTP exchange/)
  t.throws(() => stream.filterState.set('a', 1), /no HTTP exchange/)
  t.throws(() => stream.signal, /no HTTP exchange/)
  t.end()
})

const FILE = 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog'

function parse(entry: JsonObject): { logs: AccessLogConfig[]; errors: string[] } {
  const { value, errors } = parseJson({ access_log: [entry] }, (fields) => parseAccessLogs(fields, 'access_log'))
  return { logs: value, errors }
}

t.test('logs of filters are read with their sinks, formats and filters', (t) => {
  const filters: readonly [JsonObject, boolean][] = [
    [{ response_flag_filter: { flags: ['UF'] } }, true],
    [{ response_flag_filter: { flags: ['UH'] } }, false],
    [{ duration_filter: { comparison: { op: 'GE', value: { default_value: 250 } } } }, true],
    [{ duration_filter: { comparison: { op: 'GE', value: { default_value: 251 } } } }, false],
    [{ log_type_filter: { types: ['TcpConnectionEnd'] } }, true],
    [{ log_type_filter: { types: ['TcpConnectionEnd'], exclude: true } }, false],
    [{ runtime_filter: { runtime_key: 'k', percent_sampled: { numerator: 60 } } }, true],
    [{ runtime_filter: { percent_sampled: { numerator: 400_000, denominator: 'MILLION' } } }, false],
    [{ status_code_filter: { comparison: { op: 'EQ', value: { default_value: 0 } } } }, true],
    [{ not_health_check_filter: {} }, true],
    [{ traceable_filter: {} }, false],
    [{ header_filter: { header: { name: 'x', present_match: true } } }, false],
    [{ grpc_status_filter: { statuses: ['OK'] } }, false],
    [
      {
        metadata_filter: {
          matcher: { filter: 'ns', path: [{ key: 'key' }], value: { string_match: { exact: 'value' } } },
        },
      },
      true,
    ],
    [
      {
        and_filter: {
          filters: [
            { response_flag_filter: {} },
            { or_filter: { filters: [{ traceable_filter: {} }, { not_health_check_filter: {} }] } },
          ],
        },
      },
      true,
    ],
  ]
  for (const [filter, expected] of filters) {
    const { logs, errors } = parse({ filter, typed_config: { '@type': FILE, path: '/dev/null' } })
    t.same(errors, [], JSON.stringify(filter))
    const taken = compileAccessLogFilter(logs[0].filter as NonNullable<AccessLogConfig['filter']>, {
      runtime: { get: () => undefined },
      clock: new TestClock(),
      logType: 'TcpConnectionEnd',
    })
    t.equal(taken(sample()), expected, JSON.stringify(filter))
  }
  const [log] = parse({ typed_config: { '@type': FILE, path: '/dev/stdout', json_format: { a: '%DURATION%' } } }).logs
  t.same(log, { sink: { kind: 'stdout' }, format: { kind: 'json', json: { a: '%DURATION%' } } })
  t.end()
})

t.test('mistakes of logs are named', (t) => {
  const cases: readonly [JsonObject, RegExp][] = [
    [{}, /typed_config: is required/],
    [{ typed_config: { '@type': 'type.googleapis.com/a.b.Logger', x: 1 } }, /access logger "a\.b\.Logger"/],
    [{ typed_config: { '@type': FILE } }, /path: must not be empty/],
    [{ typed_config: { '@type': FILE, path: 'x', log_format: { text_format: '%NOPE%' } } }, /NOPE/],
    [{ filter: { extension_filter: {} }, typed_config: { '@type': FILE, path: 'x' } }, /extension_filter/],
    [{ filter: { metadata_filter: {} }, typed_config: { '@type': FILE, path: 'x' } }, /matcher: is required/],
  ]
  for (const [entry, error] of cases) t.match(parse(entry).errors.join('\n'), error)
  t.end()
})
