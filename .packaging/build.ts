import { execFileSync } from 'node:child_process'
import { copyFileSync, globSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** Files that the sources read at run time, beside themselves. */
const ASSETS: readonly string[] = ['lib/proto/generated/*.binpb', 'lib/cli/capabilities/table.json']

/** Makes `dist` from nothing: JavaScript and declarations of all sources, and the files they read at run time. */
export function build(root: string): void {
  const dist = join(root, 'dist')
  rmSync(dist, { recursive: true, force: true })
  const compiler = join(root, 'node_modules/typescript/bin/tsc')
  execFileSync(process.execPath, [compiler, '-p', join(root, 'tsconfig.build.json')], { stdio: 'inherit' })
  for (const path of globSync('**/*.d.ts', { cwd: dist })) rewriteImports(join(dist, path))
  const assets = ASSETS.flatMap((pattern) => globSync(pattern, { cwd: root }))
  if (assets.length < ASSETS.length) throw new Error(`files are missing: ${ASSETS.join(', ')}`)
  for (const path of assets) {
    mkdirSync(dirname(join(dist, path)), { recursive: true })
    copyFileSync(join(root, path), join(dist, path))
  }
}

/** The compiler rewrites `./x.ts` to `./x.js` in JavaScript only; in declarations it would name a file that is not there. */
function rewriteImports(path: string): void {
  const text = readFileSync(path, 'utf8')
  writeFileSync(path, text.replace(/((?:from |import\()["']\.{1,2}\/[^"']+)\.ts(["'])/g, '$1.js$2'))
}
