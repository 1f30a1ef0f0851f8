import type { FieldReader } from '../../lib/core/field-reader.ts'

/** A parsed `FilterConfig`. */
export interface GrpcStatsConfig {
  /** Message counts are left in the filter state, for logs. */
  readonly emitFilterState: boolean
  /** Which methods are counted by name; the others are counted per cluster. */
  readonly methods: 'all' | readonly (readonly [service: string, method: string])[]
  /** A histogram of the upstream's time per call. */
  readonly upstreamTime: boolean
  readonly replaceDots: boolean
}

/** `envoy.extensions.filters.http.grpc_stats.v3.FilterConfig` */
export function parseGrpcStats(fields: FieldReader): GrpcStatsConfig {
  fields.unread('report')
  const list = fields.message('individual_method_stats_allowlist')
  // Neither one set means none by name: Envoy's default since it found the other one unsafe.
  const all = fields.optionalBool('stats_for_all_methods')
  if (list !== undefined && all !== undefined) {
    fields.error(undefined, 'individual_method_stats_allowlist and stats_for_all_methods exclude each other')
  }
  const listed = list === undefined ? [] : parseMethodList(list)
  return {
    emitFilterState: fields.bool('emit_filter_state'),
    methods: all === true ? 'all' : listed,
    upstreamTime: fields.bool('enable_upstream_stats'),
    replaceDots: fields.bool('replace_dots_in_grpc_service_name'),
  }
}

/** `envoy.config.core.v3.GrpcMethodList` */
function parseMethodList(list: FieldReader): [service: string, method: string][] {
  return list.messages('services').flatMap((service) => {
    const name = service.string('name')
    const methods = service.strings('method_names')
    if (name === '') service.error('name', 'must not be empty')
    if (methods.length === 0) service.error('method_names', 'must name at least one method')
    if (methods.includes('')) service.error('method_names', 'must not hold an empty name')
    return methods.map((method): [string, string] => [name, method])
  })
}
