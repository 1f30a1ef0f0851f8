import type { Clock } from '../../core/clock.ts'

/** RFC 9110 IMF-fixdate of this second; rendered once a second. */
export class HttpDate {
  readonly #clock: Clock
  #text = ''
  #atMs = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  of(nowMs: number): string {
    if (nowMs - this.#atMs >= 1000 || this.#text === '') {
      const wall = this.#clock.wall()
      this.#atMs = nowMs - (wall % 1000)
      this.#text = new Date(wall).toUTCString()
    }
    return this.#text
  }
}
