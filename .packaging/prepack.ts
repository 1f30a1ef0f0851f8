import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { build } from './build.ts'
import { type Manifest, publishedManifest } from './manifest.ts'

/*
 * Runs before `npm pack` and `npm publish`: builds `dist` and puts the published package.json in the place of the
 * repository's, which waits in `dist-package` until `postpack.ts` brings it back. If packing failed in between,
 * `node .packaging/postpack.ts` does it. See README.md.
 */

const root = dirname(import.meta.dirname)
const kept = join(root, 'dist-package/package.json')
const manifest = join(root, 'package.json')

if (existsSync(kept)) throw new Error('dist-package/package.json is there: run node .packaging/postpack.ts first')
build(root)
const original = readFileSync(manifest, 'utf8')
mkdirSync(dirname(kept), { recursive: true })
writeFileSync(kept, original)
writeFileSync(manifest, `${JSON.stringify(publishedManifest(JSON.parse(original) as Manifest), null, 2)}\n`)
