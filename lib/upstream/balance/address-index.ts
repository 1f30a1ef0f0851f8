import type { Host } from '../host.ts'
import type { HostView } from '../host-view.ts'

/** The hosts of a view by their addresses; costs nothing until somebody asks, and then once for each change. */
export class AddressIndex implements Disposable {
  readonly #view: HostView
  #hosts: ReadonlyMap<string, Host> | undefined = undefined
  #stop: (() => void) | undefined = undefined

  constructor(view: HostView) {
    this.#view = view
  }

  /** By `Host.addressText`; of several at one address that of the first priority. */
  find(address: string): Host | undefined {
    this.#hosts ??= this.#make()
    return this.#hosts.get(address)
  }

  #make(): ReadonlyMap<string, Host> {
    this.#stop ??= this.#view.onChange(() => {
      this.#hosts = undefined
    })
    const hosts = new Map<string, Host>()
    for (const host of this.#view.all) if (!hosts.has(host.addressText)) hosts.set(host.addressText, host)
    return hosts
  }

  [Symbol.dispose](): void {
    this.#stop?.()
    this.#hosts = undefined
  }
}
