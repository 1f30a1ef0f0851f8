// Preloaded into the gateway's processes: writes the longest stretch of CPU time between two turns of the loop, in
// milliseconds, to a file of the process when it has grown. Time spent waiting for a core does not count, nor does what comes before
// the process has its title: until then it loads its modules.
import { writeFileSync } from 'node:fs'

const folder = process.env.HEADGATE_LOOP_WATCH
if (folder !== undefined && typeof process.threadCpuUsage === 'function') {
  let longest = 0
  let before
  const turn = () => {
    const now = process.threadCpuUsage()
    const used = before === undefined ? 0 : (now.user - before.user + now.system - before.system) / 1000
    if (before !== undefined || kind() !== undefined) before = now
    if (used > longest) longest = used
  }
  const kind = () => /worker|control/.exec(process.title)?.[0]
  // Timers are looked at once a turn.
  setInterval(turn, 1).unref()
  let written = -1
  setInterval(() => {
    if (before === undefined || longest === written) return
    written = longest
    writeFileSync(`${folder}/loop-${kind()}`, String(longest))
  }, 200).unref()
}
