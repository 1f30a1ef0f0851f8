/** Where the built-in configuration listens; also what `headgate run` prints. */
export const DEFAULT_LISTENER = '127.0.0.1:10000'

/**
 * The configuration of `headgate run` without `--config`: an ordinary Envoy bootstrap, which sends everything to the
 * built-in demo upstream.
 */
export function defaultConfig(demoPort: number): string {
  return `admin:
  address:
    socket_address: { address: 127.0.0.1, port_value: 15000 }
node: { id: headgate-demo, cluster: demo }
static_resources:
  listeners:
    - name: demo_listener
      address:
        socket_address: { address: 127.0.0.1, port_value: 10000 }
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: demo
                codec_type: AUTO
                route_config:
                  name: demo_routes
                  virtual_hosts:
                    - name: everything
                      domains: ["*"]
                      routes:
                        - match: { path: /direct }
                          direct_response:
                            status: 200
                            body: { inline_string: "answered by the proxy itself\\n" }
                        - match: { prefix: / }
                          route: { cluster: demo_upstream, timeout: 15s }
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
    - name: demo_upstream
      type: STATIC
      connect_timeout: 1s
      load_assignment:
        cluster_name: demo_upstream
        endpoints:
          - lb_endpoints:
              - endpoint:
                  address:
                    socket_address: { address: 127.0.0.1, port_value: ${demoPort} }
`
}
