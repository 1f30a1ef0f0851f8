import { z } from 'zod'
import type { NativeAddress } from '../clusters.ts'
import type { NativeConfig, NativeListener } from '../config.ts'
import { address, cluster, locality } from './clusters.ts'
import { http } from './http.ts'
import { metadata } from './matches.ts'
import { choose, count, jsonObject, name, object } from './pieces.ts'
import { downstreamTls } from './tls.ts'

/** The schema of a whole configuration; made anew by each call, since modules hold no work. */
export function configSchema(): z.ZodType<NativeConfig> {
  return object<NativeConfig>({
    node: object<NonNullable<NativeConfig['node']>>({
      id: z.string().optional(),
      cluster: z.string().optional(),
      locality: locality().optional(),
      metadata: jsonObject().optional(),
    }).optional(),
    admin: object<NonNullable<NativeConfig['admin']>>({ address: address() }).optional(),
    listeners: z.array(listener()),
    clusters: z.array(cluster()).optional(),
    runtime: jsonObject().optional(),
  })
}

function listener(): z.ZodType<NativeListener> {
  const single = address()
  const several = z.array(single).min(1)
  return object<NativeListener>({
    name: name().optional(),
    address: choose<NativeAddress | readonly NativeAddress[]>('an address such as "127.0.0.1:8080"', (value) =>
      value === undefined ? undefined : Array.isArray(value) ? several : single,
    ),
    http: http(),
    tls: downstreamTls().optional(),
    statPrefix: name().optional(),
    maxConnections: count(1).optional(),
    bufferLimitBytes: count(1).optional(),
    backlog: count(1).optional(),
    metadata: metadata().optional(),
  })
}
