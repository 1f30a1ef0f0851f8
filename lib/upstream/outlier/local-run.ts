/**
 * Failures in a row of one kind at one host, as one of several workers has seen them and told of them: what it has not told
 * yet is its row less what it has.
 */
export class LocalRun {
  /** Of the row. */
  told = 0
  /** The first failure that is not told of yet; monotonic. */
  sinceMs = 0
  /** The last response that ended a row of this kind and no other; monotonic, 0: none that is not told of. */
  brokenMs = 0

  /** One more failure, which makes the row that long. */
  failed(row: number, nowMs: number): void {
    if (row <= 1) this.told = 0
    if (row - this.told === 1) this.sinceMs = nowMs
  }

  /** How many of the row nobody has been told of. */
  untold(row: number): number {
    return row <= this.told ? 0 : row - this.told
  }
}
