import { Agent, get } from 'node:http'

/** What came of it. */
export interface TrafficResult {
  readonly requests: number
  /** Every request that did not get a 200. */
  readonly failures: readonly string[]
}

/** Requests on a few kept connections, one after the other on each, until it is stopped. */
export class Traffic {
  readonly #port: number
  readonly #agent: Agent
  readonly #loops: readonly Promise<void>[]
  readonly #failures: string[] = []
  #requests = 0
  #stopped = false

  constructor(port: number, connections = 4) {
    this.#port = port
    this.#agent = new Agent({ keepAlive: true, maxSockets: connections })
    this.#loops = Array.from({ length: connections }, () => this.#loop())
  }

  async stop(): Promise<TrafficResult> {
    this.#stopped = true
    await Promise.all(this.#loops)
    this.#agent.destroy()
    return { requests: this.#requests, failures: this.#failures }
  }

  async #loop(): Promise<void> {
    while (!this.#stopped) {
      const outcome = await this.#request()
      this.#requests++
      if (outcome !== '200') this.#failures.push(`request ${this.#requests}: ${outcome}`)
      await new Promise((resolve) => setTimeout(resolve, 2))
    }
  }

  #request(): Promise<string> {
    return new Promise((resolve) => {
      const request = get({ port: this.#port, host: '127.0.0.1', path: '/traffic', agent: this.#agent }, (answer) => {
        answer.on('error', (error) => resolve(`broken off: ${error.message}`))
        answer.on('end', () => resolve(String(answer.statusCode)))
        answer.resume()
      })
      request.on('error', (error) => resolve(error.message))
    })
  }
}
