/** What a filter may ask for that a control plane hands out on demand only. */
export interface Demand {
  /**
   * Asks for the virtual host of a host name, for a route table that gets its virtual hosts so (Envoy's VHDS). Resolves when
   * the answer is in force or there is none, bounded: false where there is no such virtual host. Never rejects.
   */
  virtualHost(table: string, host: string): Promise<boolean>
  /**
   * Asks for a cluster (Envoy's on-demand CDS) of the source with that key, as the filter's configuration names it. As
   * above; the cluster is warm then.
   */
  cluster(name: string, source: string, timeoutMs: number): Promise<boolean>
}
