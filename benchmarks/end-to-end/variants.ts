import { HEADGATE, headgate } from './headgate.ts'
import { nodePeer } from './node-peer.ts'
import { haproxy } from './peers/haproxy.ts'
import { nginx } from './peers/nginx.ts'
import type { Variant } from './variant.ts'

/** The name of the proxy that ratios are taken to. */
export const BASE = haproxy.name

/** Every proxy of the comparison, in the order of the tables. */
export function allVariants(): Variant[] {
  return [
    haproxy,
    nginx,
    headgate(HEADGATE),
    headgate('headgate, router alone', { routerAlone: true }),
    nodePeer('relay (floor)', 'relay.ts', true),
    nodePeer('fast-proxy', 'peers/fast-proxy.ts'),
    nodePeer('node:http', 'peers/node-http.ts'),
    nodePeer('@fastify/http-proxy', 'peers/fastify-http-proxy.ts'),
    nodePeer('http-proxy', 'peers/http-proxy.ts'),
  ]
}
