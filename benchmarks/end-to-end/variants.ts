import { HEADGATE, headgate } from './headgate.ts'
import { nodePeer } from './node-peer.ts'
import { envoy } from './peers/envoy.ts'
import { haproxy } from './peers/haproxy.ts'
import { nghttpx } from './peers/nghttpx.ts'
import { nginx } from './peers/nginx.ts'
import type { Traffic, Variant } from './variant.ts'

/** The name of the proxy that ratios are taken to. */
export const BASE = haproxy.name

/** Every proxy of the comparison, in the order of the tables. */
export function allVariants(): Variant[] {
  return [
    haproxy,
    nginx,
    envoy,
    nghttpx,
    headgate(HEADGATE),
    headgate('headgate, router alone', { routerAlone: true }),
    nodePeer('relay (floor)', 'relay.ts', { floor: true, speaks: isPlainOneHop }),
    nodePeer('fast-proxy', 'peers/fast-proxy.ts'),
    nodePeer('node:http', 'peers/node-http.ts', { quick: true }),
    nodePeer('@fastify/http-proxy', 'peers/fastify-http-proxy.ts'),
    nodePeer('http-proxy', 'peers/http-proxy.ts'),
    nodePeer('node:http2', 'peers/node-http2.ts', { quick: true, speaks: isPlainHttp2 }),
    nodePeer('node:http2, raw', 'peers/node-http2.ts', { speaks: isPlainHttp2, flags: ['raw'] }),
  ]
}

function isPlainOneHop(traffic: Traffic): boolean {
  const { client, upstream, tls, layer4 = 'tcp' } = traffic
  return client === 'http1' && upstream === 'http1' && tls !== true && layer4 === 'tcp'
}

function isPlainHttp2(traffic: Traffic): boolean {
  return traffic.client === 'http2' && traffic.tls !== true
}
