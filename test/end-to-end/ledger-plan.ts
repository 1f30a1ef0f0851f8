import type { Ledger, SentRequest } from '../support/ledger.ts'
import type { Random } from '../support/random.ts'

/**
 * What is done to a request. `refuse` and `goaway` cost nobody anything: the origin says that it did not look at the
 * request, or takes no more behind it. The others end in a failure that the client must see as one.
 */
export type Fault =
  | 'none'
  | 'refuse'
  | 'goaway'
  | 'client-reset'
  | 'client-kill'
  | 'origin-reset'
  | 'origin-cut'
  | 'origin-kill'

export interface Plan {
  readonly request: SentRequest
  readonly fault: Fault
  /** The request says how long its body is. */
  readonly declared: boolean
  readonly answerBytes: number
  /** Whether the response says so. */
  readonly answerDeclared: boolean
}

const METHODS = ['GET', 'POST', 'PUT', 'DELETE', 'HEAD'] as const
/** What is refused must fit into what a gateway keeps of it. */
const SMALL = [0, 1, 100, 8_192, 30_000, 60_000] as const
const SIZES = [...SMALL, 65_536, 70_000, 300_000] as const

/** Which faults there are, and how many of a hundred requests have them. */
export type Mix = Partial<Record<Fault, number>>

/** A plan by chance; those with a fault that loses the request are excused. */
export function draw(ledger: Ledger, random: Random, mix: Mix): Plan {
  const fault = drawFault(random, mix)
  const drawn = random.pick(METHODS)
  // A response to HEAD ends with its head: nothing of it can be cut.
  const method = fault === 'origin-cut' && drawn === 'HEAD' ? 'GET' : drawn
  const bodyless = method === 'GET' || method === 'HEAD' || method === 'DELETE'
  // Where the origin may go away, any request may be behind its last one.
  const sizes = mix.goaway !== undefined || mix.refuse !== undefined ? SMALL : SIZES
  const body = stretched(bodyless ? 0 : random.pick(sizes), random)
  const request = ledger.open(method, body)
  if (fault !== 'none' && fault !== 'refuse' && fault !== 'goaway') ledger.excuse(request.seq)
  const answerBytes = random.pick(fault === 'origin-cut' ? [65_536, 250_000] : SIZES)
  return { request, fault, declared: random.below(2) === 0, answerBytes, answerDeclared: random.below(2) === 0 }
}

function drawFault(random: Random, mix: Mix): Fault {
  let rest = random.below(100)
  for (const [fault, percent] of Object.entries(mix) as [Fault, number][]) {
    if (rest < percent) return fault
    rest -= percent
  }
  return 'none'
}

/** Random bytes are slow to make: a short random piece, repeated, each time under its number. */
export function stretched(size: number, random: Random): Buffer {
  const body = Buffer.alloc(size, random.bytes(251))
  for (let at = 0; at + 4 <= size; at += 1009) body.writeUInt32BE(at, at)
  return body
}
