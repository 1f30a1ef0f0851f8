/** How many connections there are, of all listeners of a gateway that count, and how many there may be. */
export class ConnectionBudget {
  /** Undefined: no limit. Lowering it ends no connection. */
  limit: number | undefined = undefined
  #taken = 0

  get taken(): number {
    return this.#taken
  }

  /** False where there is no room; otherwise `leave` must follow. */
  enter(): boolean {
    if (this.limit !== undefined && this.#taken >= this.limit) return false
    this.#taken++
    return true
  }

  leave(): void {
    this.#taken--
  }
}

/** How many connections of a listener come from each address. */
export class SourceCounts {
  readonly #counts = new Map<string, number>()

  of(address: string): number {
    return this.#counts.get(address) ?? 0
  }

  add(address: string): void {
    this.#counts.set(address, this.of(address) + 1)
  }

  remove(address: string): void {
    const left = this.of(address) - 1
    if (left > 0) this.#counts.set(address, left)
    else this.#counts.delete(address)
  }
}
