import { downstreamTls, TYPE } from './envoy-parts.ts'
import type { ProxyTask } from './variant.ts'

/** The server name that chain `index` is chosen by. */
export function chainName(index: number): string {
  return `service-${index}.example.com`
}

/** What chain `index` sends before it closes: an HTTP answer, so that any client can read it. */
export function chainAnswer(index: number | 'default'): string {
  const body = `chain-${index}`
  return `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`
}

/** `count` filter chains with TLS, each chosen by its own SNI and telling which it is, and a default one. */
export function chainsOf(task: ProxyTask, count: number): object {
  const tls = downstreamTls(task, ['http/1.1'])
  const chain = (index: number | 'default'): object => ({ filters: [directResponse(chainAnswer(index))], ...tls })
  const inspector = { '@type': `${TYPE}.filters.listener.tls_inspector.v3.TlsInspector` }
  return {
    listener_filters: [{ name: 'tls_inspector', typed_config: inspector }],
    filter_chains: Array.from({ length: count }, (_, i) => ({
      name: chainName(i),
      filter_chain_match: { server_names: [chainName(i)] },
      ...chain(i),
    })),
    default_filter_chain: chain('default'),
  }
}

function directResponse(text: string): object {
  const config = { '@type': `${TYPE}.filters.network.direct_response.v3.Config`, response: { inline_string: text } }
  return { name: 'direct_response', typed_config: config }
}
