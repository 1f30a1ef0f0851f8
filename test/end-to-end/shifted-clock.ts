/**
 * Preloaded into the processes of a gateway: the time of day is off by as many milliseconds as the file in
 * `HEADGATE_SHIFT_FILE` says, looked at again and again. What counts the time that passes (performance.now, timers) goes on
 * as it is, as it does when somebody sets a computer's clock.
 */
import { readFileSync } from 'node:fs'

const file = process.env.HEADGATE_SHIFT_FILE
if (file !== undefined) {
  const RealDate = Date
  let offsetMs = 0
  const look = (): void => {
    try {
      offsetMs = Number(readFileSync(file, 'utf8')) || 0
    } catch {
      // Not written yet.
    }
  }
  look()
  setInterval(look, 50).unref()
  const now = (): number => RealDate.now() + offsetMs
  globalThis.Date = new Proxy(RealDate, {
    construct: (target, args) => (args.length === 0 ? new target(now()) : Reflect.construct(target, args)),
    get: (target, key, receiver) => (key === 'now' ? now : Reflect.get(target, key, receiver)),
  })
}
