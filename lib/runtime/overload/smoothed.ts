/** A moving average that forgets what came a second ago by about two thirds: one long turn of the loop is no overload. */
export class Smoothed {
  readonly #overMs: number
  #value = 0
  #atMs: number

  constructor(nowMs: number, overMs = 1_000) {
    this.#atMs = nowMs
    this.#overMs = overMs
  }

  next(value: number, nowMs: number): number {
    const weight = 1 - Math.exp(-Math.max(0, nowMs - this.#atMs) / this.#overMs)
    this.#atMs = nowMs
    this.#value += (value - this.#value) * weight
    return this.#value
  }
}
