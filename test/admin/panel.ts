import { create, toBinary } from '@bufbuild/protobuf'
import type { GatewayConfig } from '../../lib/config/model.ts'
import type { DynamicStatus, ResourceStatus } from '../../lib/config/status.ts'
import { ConfigError, type JsonObject } from '../../lib/core/errors.ts'
import { decodeJson } from '../../lib/proto/decode-json.ts'
import type { ProtoRegistry } from '../../lib/proto/registry.ts'
import type { ControlPanel } from '../../lib/runtime/control-panel.ts'
import type { EngineStatus } from '../../lib/runtime/engine.ts'

export const CLUSTER = 'envoy.config.cluster.v3.Cluster'
export const LISTENER = 'envoy.config.listener.v3.Listener'
export const ROUTES = 'envoy.config.route.v3.RouteConfiguration'
export const SECRET = 'envoy.extensions.transport_sockets.tls.v3.Secret'
export const ENDPOINTS = 'envoy.config.endpoint.v3.ClusterLoadAssignment'
export const EXTENSION = 'envoy.config.core.v3.TypedExtensionConfig'
export const SCOPE = 'envoy.config.route.v3.ScopedRouteConfiguration'
export const TYPE = 'type.googleapis.com/'
export const UPDATED = Date.UTC(2026, 0, 2)

/** The wire form of a resource given as proto-JSON. */
export function wire(registry: ProtoRegistry, typeName: string, json: JsonObject): Uint8Array {
  const desc = registry.expect(typeName)
  const { message, errors } = decodeJson(registry, desc, json, '')
  if (message === undefined || errors.length > 0) throw new Error(errors.join('\n'))
  return toBinary(desc, message)
}

export interface Content {
  readonly version: string
  readonly bytes: Uint8Array
}

/** A resource that was delivered; `failed`: a newer version of it that was refused. */
export function delivered(
  typeName: string,
  name: string,
  parts: {
    readonly active?: Content
    readonly warming?: Content
    readonly draining?: Content
    readonly failed?: Content
    readonly client?: ResourceStatus['client']
    readonly stale?: boolean
    readonly source?: string
  },
): ResourceStatus {
  const version = (content: Content | undefined) => content && { ...content, updatedMs: UPDATED }
  const { active, warming, draining, failed, stale = false, source = 'ads' } = parts
  return {
    typeName,
    name,
    source,
    client: parts.client ?? (failed === undefined ? 'acked' : 'nacked'),
    active: version(active),
    warming: version(warming),
    ...(draining !== undefined && { draining: { ...draining, updatedMs: UPDATED } }),
    failure: failed && {
      version: failed.version,
      bytes: failed.bytes,
      attemptedMs: UPDATED + 1000,
      errors: [new ConfigError('name', 'is taken'), new ConfigError('', 'and more')],
    },
    stale,
  }
}

export function dynamicStatus(resources: readonly ResourceStatus[], more: Partial<DynamicStatus> = {}): DynamicStatus {
  return { resources, sources: [], waiting: [], layers: [], stale: false, ...more }
}

export interface FakePanel extends ControlPanel {
  status_: EngineStatus
  config: GatewayConfig
  dynamic_: DynamicStatus | undefined
  readonly modified: JsonObject[]
  adminLayer: boolean
}

/** A gateway whose configuration somebody else delivers. */
export function fakePanel(dynamic: DynamicStatus | undefined, config: Partial<GatewayConfig> = {}): FakePanel {
  const none = (): never => {
    throw new Error('not asked for here')
  }
  return {
    status_: { listeners: [], clusters: [] },
    config: { node: { id: 'n1', cluster: 'c1' }, listeners: [], clusters: [], runtime: {}, ignored: [], ...config },
    dynamic_: dynamic,
    modified: [],
    adminLayer: true,
    state: () => 'LIVE',
    uptimeMs: () => 1,
    workers: () => 1,
    configuration() {
      return { config: this.config, updatedMs: UPDATED }
    },
    stats: none,
    async status() {
      return this.status_
    },
    memory: none,
    dynamic() {
      return this.dynamic_
    },
    modifyRuntime(values) {
      if (!this.adminLayer) return 'there is no admin layer: add one'
      this.modified.push(values)
      return undefined
    },
    loads: none,
    logLevel: () => undefined,
    setLogLevel: none,
    drainListeners: none,
    setHealthy: none,
    reopenLogs: none,
    restartWorkers: () => false,
    quit: none,
  }
}

/** An Any of `any` as bytes, whatever `value` is. */
export function rawAny(registry: ProtoRegistry, typeUrl: string, value: Uint8Array): Uint8Array {
  const desc = registry.expect('google.protobuf.Any')
  return toBinary(desc, create(desc, { typeUrl, value }))
}
