import { z } from 'zod'
import type { NativeConfig } from '../config.ts'
import { address, cluster, locality } from './clusters.ts'
import { hboneServer } from './hbone.ts'
import { listener } from './listeners.ts'
import { overload } from './overload.ts'
import { count, jsonObject, object } from './pieces.ts'
import { watchdogs } from './watchdogs.ts'

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
    hbone: z.array(hboneServer(address())).optional(),
    maxConnections: count(1).optional(),
    overload: overload().optional(),
    watchdogs: watchdogs().optional(),
    runtime: jsonObject().optional(),
  })
}
