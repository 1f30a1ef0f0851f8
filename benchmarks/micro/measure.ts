/** Turns by `turns`, sizes forth and back: values of each size in CPU nanoseconds, none always on a warmer machine. */
export function inTurns(sizes: number, turns: number, measure: (size: number) => number): number[][] {
  const rounds = Array.from({ length: sizes }, (): number[] => [])
  for (let turn = 0; turn < turns; turn++) {
    const order = [...rounds.keys()]
    if (turn % 2 === 1) order.reverse()
    for (const size of order) rounds[size].push(measure(size))
  }
  return rounds
}

/** One line: median with lowest and highest, and as a multiple of the first size's. */
export function lineOf(what: string, rounds: readonly number[], base: readonly number[], compiledMs: number): string {
  const ns = middle(rounds)
  const range = `${Math.min(...rounds).toFixed(0)}-${Math.max(...rounds).toFixed(0)}`
  const ratio = (ns / middle(base)).toFixed(2)
  return `  ${what} ${ns.toFixed(0).padStart(5)} ns (${range})  x${ratio}  compiled in ${compiledMs.toFixed(0)} ms\n`
}

/** Indices of so many samples in an order that looks random and is the same in every run. */
export function shuffledOrder(samples: number): Int32Array {
  const order = new Int32Array(1 << 16)
  let seed = 1
  for (let i = 0; i < order.length; i++) {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fffffff
    order[i] = Math.floor((seed / 0x80000000) * samples)
  }
  return order
}

function middle(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]
}
