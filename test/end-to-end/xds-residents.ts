import { readFileSync } from 'node:fs'
import type { GatewayProcess } from '../attacks/gateway-process.ts'

/** How one process's memory went. */
export interface Figures {
  readonly name: string
  /** Resident memory, MiB a minute, by the straight line that fits best. */
  readonly slope: number
  /** The same of what is in use. */
  readonly liveSlope: number
  readonly text: string
}

/** The part that goes by before memory is looked at: caches fill, code is compiled, the heap takes the size that it keeps. */
const WARM_UP = 1 / 2

interface Look {
  readonly atMs: number
  readonly resident: ReadonlyMap<string, number>
  readonly live: ReadonlyMap<string, number>
}

/** Memory of a gateway's processes over time; `folder` is where they write what they have in use, if they do. */
export class Residents {
  readonly #gateway: GatewayProcess
  readonly #pids: ReadonlyMap<string, number>
  readonly #folder: string
  readonly #looks: Look[] = []

  constructor(gateway: GatewayProcess, folder: string) {
    this.#gateway = gateway
    this.#folder = folder
    this.#pids = gateway.processes()
  }

  look(): void {
    const pids = [...this.#pids]
    this.#looks.push({
      atMs: performance.now(),
      resident: new Map(pids.map(([name, pid]) => [name, this.#gateway.rssOf(pid)])),
      live: new Map(pids.map(([name, pid]) => [name, liveOf(`${this.#folder}/heap-${pid}`)])),
    })
  }

  /** Of every process that was there at the start. */
  figures(): Figures[] {
    const warm = this.#looks.slice(Math.floor(this.#looks.length * WARM_UP))
    return [...this.#pids.keys()].map((name) => {
      const [resident, live] = [
        described(warm, ({ resident }) => resident.get(name)),
        described(warm, ({ live }) => live.get(name)),
      ]
      const text = `resident ${resident.text}; in use ${live.text}`
      return { name, slope: resident.slope, liveSlope: live.slope, text }
    })
  }
}

function described(
  looks: readonly Look[],
  of: (look: Look) => number | undefined,
): { readonly slope: number; readonly text: string } {
  const points = looks.map((look) => [look.atMs / 60_000, of(look) ?? 0] as const)
  const values = points.map(([, value]) => value)
  const slope = slopeOf(points)
  const [least, most] = [Math.min(...values), Math.max(...values)]
  return { slope, text: `${least.toFixed(1)} to ${most.toFixed(1)} MiB, ${slope.toFixed(2)} a minute` }
}

/** MiB; 0 where nothing is told. */
function liveOf(file: string): number {
  try {
    return Number(readFileSync(file, 'utf8'))
  } catch {
    return 0
  }
}

/** Least squares. */
function slopeOf(points: readonly (readonly [x: number, y: number])[]): number {
  const mean = (of: readonly number[]): number => of.reduce((sum, one) => sum + one, 0) / of.length
  const [mx, my] = [mean(points.map(([x]) => x)), mean(points.map(([, y]) => y))]
  const over = points.reduce((sum, [x, y]) => sum + (x - mx) * (y - my), 0)
  const under = points.reduce((sum, [x]) => sum + (x - mx) ** 2, 0)
  return under === 0 ? 0 : over / under
}
