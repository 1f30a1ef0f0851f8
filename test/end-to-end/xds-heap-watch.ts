/**
 * Preloaded into the processes of a gateway, with `--expose-gc`: collects all garbage every second, so that resident memory
 * is what is in use and not what nobody has looked at yet, and writes what is left to a file of the process.
 */
import { renameSync, writeFileSync } from 'node:fs'

const folder = process.env.HEADGATE_HEAP_WATCH
const { gc } = globalThis
if (folder !== undefined && gc !== undefined) {
  setInterval(() => {
    gc()
    const { heapUsed, external } = process.memoryUsage()
    const file = `${folder}/heap-${process.pid}`
    writeFileSync(`${file}.new`, String((heapUsed + external) / (1 << 20)))
    renameSync(`${file}.new`, file)
  }, 1000).unref()
}
