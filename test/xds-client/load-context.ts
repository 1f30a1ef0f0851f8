import { createProtoRegistry } from '../../lib/proto/registry.ts'
import { RuleChecker } from '../../lib/proto/rules.ts'
import type { EnvoyLoadContext } from '../../xds-client/envoy/load.ts'
import { FAKE_FILTERS } from './fake-filters.ts'
import { FAKE_LISTENER_FILTERS, FAKE_NETWORK_FILTERS } from './fake-lower-filters.ts'

const registry = createProtoRegistry()

/** What translating needs, with fake filters and checks that find nothing. */
export const LOAD_CONTEXT: EnvoyLoadContext = {
  registry,
  rules: new RuleChecker(registry),
  filters: FAKE_FILTERS,
  networkFilters: FAKE_NETWORK_FILTERS,
  listenerFilters: FAKE_LISTENER_FILTERS,
  checks: {
    format: () => undefined,
    pathTemplate: () => undefined,
    pathTemplateRewrite: () => undefined,
    tls: () => [],
  },
}
