import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'

// Runs Biome's own binary. Its npm wrapper names binaries of every platform, which not every registry has, and `npm ci`
// refuses a lockfile that lacks one of them.

const binary = `@biomejs/cli-${process.platform}-${process.arch}/biome`
let path: string
try {
  path = createRequire(import.meta.url).resolve(binary)
} catch {
  console.error(`lint and format need ${binary}, which is not installed: Linux on x64 or arm64 only`)
  process.exit(1)
}
process.exit(spawnSync(path, process.argv.slice(2), { stdio: 'inherit' }).status ?? 1)
