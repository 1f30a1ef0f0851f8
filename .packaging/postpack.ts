import { existsSync, renameSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'

/* Runs after `npm pack`, and by hand after one that failed: leaves the working tree as it was. */

const root = dirname(import.meta.dirname)
const kept = join(root, 'dist-package/package.json')

if (existsSync(kept)) renameSync(kept, join(root, 'package.json'))
for (const folder of ['dist', 'dist-package']) rmSync(join(root, folder), { recursive: true, force: true })
