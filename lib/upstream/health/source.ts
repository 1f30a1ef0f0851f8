import type { ClusterConfig } from '../config.ts'
import type { Host } from '../host.ts'

/** Who acts on what checks say. */
export interface HealthListener {
  /** The host has answered, or has not; `changed`: its flags have. */
  hostChecked(host: Host, changed: boolean): void
}

/**
 * Says how the hosts of a cluster are, by raising and lowering their flags: a checker in this process, or somebody who
 * checks for several.
 */
export interface HealthSource {
  /** A host is about to become a member. */
  admit(host: Host): void
  /** After each change of membership or of what is known of hosts; `removed` are looked at no longer. */
  update(added: readonly Host[], removed: readonly Host[]): void
  /** Resolves when something is known of each host that is a member now, or `close` was called; never rejects. */
  ready(): Promise<void>
  /** Other certificates for connections to come. */
  renew(config: ClusterConfig): void
  /** Idempotent. */
  close(): void
}
