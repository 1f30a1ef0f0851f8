import { z } from 'zod'
import { isObject } from '../../../proto/describe.ts'
import type { NativeAddress } from '../clusters.ts'
import type {
  NativeConnectProxy,
  NativeKeepalive,
  NativeProxyHeader,
  NativeTlv,
  NativeTransport,
} from '../transports.ts'
import { hbone } from './hbone.ts'
import { choose, count, object, type Shape } from './pieces.ts'
import { upstreamTls } from './tls.ts'

const MAX_TYPE = 255

function tlv(): z.ZodType<NativeTlv> {
  const value = z.union([z.string().min(1), z.instanceof(Uint8Array)]) as unknown as z.ZodType<string | Uint8Array>
  return object<NativeTlv>({
    type: count().max(MAX_TYPE),
    value: value.optional(),
    format: z.string().min(1).optional(),
  }).refine((tlv) => (tlv.value === undefined) !== (tlv.format === undefined), 'one of value and format is required')
}

function proxyHeader(): z.ZodType<NonNullable<NativeTransport['proxyProtocol']>> {
  const version = z.union([z.literal(1), z.literal(2)])
  const types = z.array(count().max(MAX_TYPE))
  const long = object<NativeProxyHeader>({
    version,
    passTlvs: choose<NonNullable<NativeProxyHeader['passTlvs']>>('none, all or a list of types', (value) =>
      typeof value === 'string' ? z.enum(['none', 'all']) : types,
    ).optional(),
    addedTlvs: z.array(tlv()).optional(),
  })
  return choose('1, 2 or an object with version', (value) => (isObject(value) ? long : version))
}

function connectProxy(address: z.ZodType<NativeAddress>): z.ZodType<NonNullable<NativeTransport['connectProxy']>> {
  const long = object<NativeConnectProxy>({ address, target: z.enum(['hostname', 'address']).optional() })
  return choose('an address, or an object with address', (value) =>
    isObject(value) && 'address' in value ? long : address,
  )
}

/** The fields of a transport, which clusters have too. */
export function transportFields(address: z.ZodType<NativeAddress>): Shape<NativeTransport> {
  return {
    tls: upstreamTls().optional(),
    proxyProtocol: proxyHeader().optional(),
    connectProxy: connectProxy(address).optional(),
    hbone: hbone(address).optional(),
  }
}

export function keepalive(): z.ZodType<NativeKeepalive> {
  return object<NativeKeepalive>({
    idleS: count(1),
    intervalS: count(1).optional(),
    probes: count(1).optional(),
  })
}
