import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { REPOSITORY } from './end-to-end/node-peer.ts'

/** The parts of a `.cpuprofile` that are read here (Chrome DevTools protocol, `Profiler.Profile`); times in µs. */
export interface CpuProfile {
  readonly startTime: number
  readonly nodes: readonly {
    readonly id: number
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number }
  }[]
  readonly samples: readonly number[]
  readonly timeDeltas: readonly number[]
}

export interface SelfTime {
  readonly group: string
  readonly name: string
  readonly place: string
  readonly us: number
}

/** Self time of each function, largest first, of the samples taken between `from` and `to` on the monotonic clock. */
export function selfTimes(profile: CpuProfile, window: { readonly from: number; readonly to: number }): SelfTime[] {
  const byNode = new Map<number, number>()
  let at = profile.startTime
  for (const [i, id] of profile.samples.entries()) {
    at += profile.timeDeltas[i]
    // A delta is the time since the sample before; what lies between two samples is given to the first of them.
    const next = profile.timeDeltas[i + 1] ?? 0
    if (at >= window.from && at <= window.to) byNode.set(id, (byNode.get(id) ?? 0) + next)
  }
  // A function has one node per call path: add them up.
  const byFunction = new Map<string, SelfTime>()
  for (const node of profile.nodes) {
    const us = byNode.get(node.id)
    if (us === undefined) continue
    const { functionName, url, lineNumber } = node.callFrame
    const place = url === '' ? '' : `${shortened(url)}:${lineNumber + 1}`
    const key = `${functionName} ${place}`
    const group = groupOf(functionName, url)
    byFunction.set(key, { group, name: functionName || '(anonymous)', place, us: us + (byFunction.get(key)?.us ?? 0) })
  }
  return [...byFunction.values()].sort((a, b) => b.us - a.us)
}

function shortened(url: string): string {
  return url.startsWith('file://') ? relative(REPOSITORY, fileURLToPath(url)) : url
}

function groupOf(name: string, url: string): string {
  if (name === '(idle)') return 'idle'
  if (name === '(garbage collector)') return 'garbage collection'
  if (name === '(program)') return 'native, outside JavaScript: event loop, epoll, read'
  if (url === '') return 'native, called from JavaScript: mostly write'
  if (url.startsWith('node:')) return 'Node internals in JavaScript'
  const path = shortened(url)
  if (path.startsWith('node_modules/'))
    return `package ${path
      .split('/')
      .slice(1, path.startsWith('node_modules/@') ? 3 : 2)
      .join('/')}`
  const folders = path.split('/').slice(0, path.startsWith('lib/') || path.startsWith('filters/') ? 2 : 1)
  return `ours, ${folders.join('/')}`
}
