import type { FilterFactory } from '../../lib/chain/filter.ts'
import type { Json } from '../../lib/core/errors.ts'
import type { FieldReader } from '../../lib/core/field-reader.ts'

const HTTP = 'envoy.extensions.filters.http.'

/** Filters that only parse: translations are tested without the real ones. */
export const FAKE_FILTERS: ReadonlyMap<string, FilterFactory> = new Map(
  [fakeRouter(), fakeBuffer(), fakeMutation()].flatMap((filter) =>
    filter.typeUrls.map((type) => [type, filter] as const),
  ),
)

function fakeRouter(): FilterFactory {
  return {
    name: 'envoy.filters.http.router',
    typeUrls: [`${HTTP}router.v3.Router`],
    routeTypeUrls: [],
    terminal: true,
    parse(fields: FieldReader): Json {
      fields.unread('report').ignore('dynamic_stats')
      return { suppressEnvoyHeaders: fields.bool('suppress_envoy_headers') }
    },
    compile: neverCompiled,
  }
}

function fakeBuffer(): FilterFactory {
  return {
    name: 'envoy.filters.http.buffer',
    typeUrls: [`${HTTP}buffer.v3.Buffer`],
    routeTypeUrls: [`${HTTP}buffer.v3.BufferPerRoute`],
    parse(fields: FieldReader): Json {
      return { maxRequestBytes: fields.number('max_request_bytes') ?? 0 }
    },
    parseRoute(fields: FieldReader): Json {
      const buffer = fields.message('buffer')
      return { disabled: fields.bool('disabled'), maxRequestBytes: buffer?.number('max_request_bytes') ?? 0 }
    },
    compile: neverCompiled,
  }
}

function fakeMutation(): FilterFactory {
  return {
    name: 'envoy.filters.http.header_mutation',
    typeUrls: [`${HTTP}header_mutation.v3.HeaderMutation`],
    routeTypeUrls: [`${HTTP}header_mutation.v3.HeaderMutationPerRoute`],
    parse: countMutations,
    parseRoute: countMutations,
    compile: neverCompiled,
  }
}

function countMutations(fields: FieldReader): Json {
  const mutations = fields.message('mutations')?.messages('request_mutations') ?? []
  return { removed: mutations.map((mutation) => mutation.string('remove')) }
}

function neverCompiled(): never {
  throw new Error('not compiled here')
}
