import type { HttpFilter, HttpStream, Next, Replied } from './filter.ts'
import { REPLIED } from './reply.ts'

/**
 * Sends the request on and waits until response headers have come, from the upstream or as a local reply of some other
 * filter: `stream.status` and `stream.response` are set from then on and may be changed.
 *
 * Rejects with `ExchangeEnded` where that will never be: the client has gone, or somebody else has answered before the
 * request was sent on. To be called at most once.
 */
export type CallNext = () => Promise<void>

/**
 * An onion layer. What it does before `next()` holds the request back, what it does after it holds the response back.
 * Returning `stream.reply(...)` answers, before `next()` or after it.
 */
export type Middleware = (
  stream: HttpStream,
  next: CallNext,
) => void | undefined | Replied | PromiseLike<void | undefined | Replied>

/** Why `next()` was rejected: the exchange ended, or was answered, without the response it waited for. */
export class ExchangeEnded extends Error {
  constructor(name: string) {
    super(`middleware "${name}": the exchange ended before its response`)
    this.name = 'ExchangeEnded'
  }
}

/**
 * Makes a filter of an async function, for authors who prefer one function to hooks. It costs promises, closures and
 * an order of magnitude more time than hooks do (about 1 us per request); bodies pass by without it, unless the function
 * collects or peeks.
 *
 * What the function throws becomes a 500 (an abort once headers have gone down). It must call `next()` or answer: if it
 * returns without either, that is an error too. If it returns without waiting for `next()`, the response passes
 * untouched. When the client goes away `next()` rejects, so `finally` blocks run; that rejection itself is no error. Work
 * of its own that should stop then takes `stream.signal`. What
 * it throws after an end that it was waiting for has nobody to tell.
 *
 * @param name appears in error messages.
 *
 * @example
 * const timing = middleware('timing', async (stream, next) => {
 *   const began = performance.now()
 *   await next()
 *   stream.response.set('x-upstream-ms', (performance.now() - began).toFixed(1))
 * })
 */
export function middleware(name: string, run: Middleware): HttpFilter<unknown> {
  const filter: HttpFilter<Run> = {
    createState: (stream) => new Run(name, stream),
    onRequestHeaders: (_stream, _end, state) => state.begin(run),
    onResponseHeaders: (_stream, _end, state) => state.responseBegins(),
    onEnd: (_stream, state) => state.end(),
  }
  return Object.freeze(filter) as HttpFilter<unknown>
}

interface Deferred<T> {
  readonly promise: Promise<T>
  readonly resolve: (value: T) => void
  readonly reject: (error: unknown) => void
}

type Answer = undefined | Replied

/**
 * One run of the function beside its exchange:
 *
 * ```
 * before next()  ──▶ waiting for the response ──▶ after next() ──▶ done
 *  holds request          holds nothing           holds response
 * ```
 * Whichever part holds a direction gets the function's outcome; an error that comes while it holds nothing is kept for
 * the response hook.
 */
class Run {
  readonly #name: string
  readonly #stream: HttpStream
  #request: Deferred<Answer> | undefined = undefined
  #response: Deferred<Answer> | undefined = undefined
  #next: Deferred<void> | undefined = undefined
  /** The response has reached this filter, or never will: `next()` has nothing to wait for any more. */
  #over = false
  #settled = false
  #failed = false
  #error: unknown = undefined

  constructor(name: string, stream: HttpStream) {
    this.#name = name
    this.#stream = stream
  }

  begin(run: Middleware): Next {
    const request = Promise.withResolvers<Answer>()
    this.#request = request
    // Throws of a function that is not async reach the engine from here.
    const outcome = run(this.#stream, () => this.#callNext())
    if (outcome === REPLIED) return REPLIED
    Promise.resolve(outcome as PromiseLike<Answer>).then(
      (answer) => this.#returned(answer),
      (error: unknown) => this.#threw(error),
    )
    return request.promise
  }

  #callNext(): Promise<void> {
    if (this.#next !== undefined) return Promise.reject(new Error(`middleware "${this.#name}" called next() twice`))
    const next = Promise.withResolvers<void>()
    this.#next = next
    // A function that does not wait for its next() must not turn a client's departure into an unhandled rejection.
    next.promise.catch(nothing)
    if (this.#over) next.reject(new ExchangeEnded(this.#name))
    else this.#request?.resolve(undefined)
    return next.promise
  }

  #returned(answer: Answer): void {
    this.#settled = true
    // A status stands as soon as anything was answered, by a reply or by `respond`.
    const answered = answer === REPLIED || this.#over || this.#stream.status !== 0
    if (this.#next === undefined && !answered) {
      this.#request?.reject(new Error(`middleware "${this.#name}" neither called next() nor answered`))
      return
    }
    this.#request?.resolve(answer)
    this.#response?.resolve(answer)
  }

  #threw(error: unknown): void {
    this.#settled = true
    if (this.#over && error instanceof ExchangeEnded) {
      this.#request?.resolve(undefined)
      this.#response?.resolve(undefined)
    } else if (this.#response !== undefined) this.#response.reject(error)
    else if (this.#next === undefined || this.#over) this.#request?.reject(error)
    else {
      this.#failed = true
      this.#error = error
    }
  }

  responseBegins(): Next {
    const waits = this.#next !== undefined && !this.#over
    this.#over = true
    if (!waits) return
    if (this.#failed) throw this.#error
    if (this.#settled) return
    this.#response = Promise.withResolvers<Answer>()
    this.#next?.resolve()
    return this.#response.promise
  }

  /** The promises the engine waits for are settled by the function's outcome, so that what it throws late is logged. */
  end(): void {
    if (!this.#over) this.#next?.reject(new ExchangeEnded(this.#name))
    this.#over = true
  }
}

function nothing(): void {}
