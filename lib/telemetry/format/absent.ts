import type { Command } from './operator.ts'

/**
 * Envoy's commands that are valid and never have a value here, and why: control planes send them, and a log line without
 * one field is better than a listener refused for it.
 */
const ABSENT: readonly (readonly [why: string, names: readonly string[]])[] = Object.freeze([
  ['not recorded', ['DOWNSTREAM_HANDSHAKE_DURATION', 'UPSTREAM_CONNECTION_POOL_READY_DURATION']],
  ['HTTP/3 only', ['ROUNDTRIP_DURATION']],
  ['virtual clusters are not built', ['VIRTUAL_CLUSTER_NAME']],
  [
    'attempts are counted, not listed',
    [
      'UPSTREAM_HOSTS_ATTEMPTED',
      'UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT',
      'UPSTREAM_HOST_NAMES_ATTEMPTED',
      'UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT',
      'UPSTREAM_CONNECTION_IDS_ATTEMPTED',
    ],
  ],
  [
    'connections within the gateway carry the addresses of their clients',
    ['DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID', 'DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID'],
  ],
  [
    'known only after the connection has closed, when the line is written already',
    [
      'UPSTREAM_DETECTED_CLOSE_TYPE',
      'UPSTREAM_LOCAL_CLOSE_REASON',
      'DOWNSTREAM_DETECTED_CLOSE_TYPE',
      'DOWNSTREAM_LOCAL_CLOSE_REASON',
    ],
  ],
  [
    'upstream heads are not measured',
    [
      'UPSTREAM_HEADER_BYTES_SENT',
      'UPSTREAM_HEADER_BYTES_RECEIVED',
      'UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT',
      'UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED',
    ],
  ],
  ['an exchange does not carry this metadata', ['CLUSTER_METADATA', 'UPSTREAM_METADATA']],
  ['no spans are made', ['SPAN_ID']],
  ['filters set no custom flags', ['CUSTOM_FLAGS']],
  [
    'certificates are not read for it',
    [
      'DOWNSTREAM_PEER_OTHERNAME_SAN',
      'DOWNSTREAM_LOCAL_OTHERNAME_SAN',
      'DOWNSTREAM_LOCAL_IP_SAN',
      'DOWNSTREAM_LOCAL_EMAIL_SAN',
      'UPSTREAM_LOCAL_IP_SAN',
    ],
  ],
])

/** Envoy's commands that are refused, and why: they would need something that is not there to mean anything. */
export const REFUSED_COMMANDS: readonly (readonly [name: string, why: string])[] = Object.freeze([
  ['CEL', 'CEL expressions are not supported in formats'],
  ['TYPED_CEL', 'CEL expressions are not supported in formats'],
  ['FILE_CONTENT', 'the file_content formatter extension is not supported'],
  ['SECRET', 'the generic_secret formatter extension is not supported'],
  ['UPSTREAM_FILTER_STATE', 'it is for upstream access logs, which are not supported'],
])

/** The accepted commands without a value. */
export const ABSENT_COMMANDS: readonly Command[] = Object.freeze(
  ABSENT.flatMap(([why, names]) =>
    names.map(
      (name): Command => ({
        name,
        argument: '',
        needs: 'optional',
        length: 'cuts',
        origin: 'plain',
        meaning: `never has a value: ${why}`,
        compile: (_, context) => {
          context.absent()
          return () => undefined
        },
      }),
    ),
  ),
)
