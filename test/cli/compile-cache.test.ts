import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

const SOURCE = new URL('../../lib/cli/compile-cache.ts', import.meta.url).href

/** What the environment says in a process of its own after `keepCompiled` there: it holds for the whole process. */
function cacheFolder(from: string, settings: NodeJS.ProcessEnv = {}): string {
  const { NODE_COMPILE_CACHE: _, NODE_DISABLE_COMPILE_CACHE: __, ...inherited } = process.env
  const code = `const { keepCompiled } = await import(${JSON.stringify(SOURCE)})
    const env = { ...process.env }
    keepCompiled(env, ${JSON.stringify(from)})
    console.log(env.NODE_COMPILE_CACHE ?? 'none')`
  const env = { ...inherited, ...settings }
  return execFileSync(process.execPath, ['--input-type=module', '-e', code], { env, encoding: 'utf8' }).trim()
}

t.test('compiled modules are kept beside the package, for children too', async (t) => {
  const root = t.testdir({ node_modules: { headgate: { dist: { lib: { cli: {} } } } }, checkout: { lib: { cli: {} } } })
  const kept = join(root, 'node_modules', '.cache', 'headgate')
  t.equal(cacheFolder(join(root, 'node_modules', 'headgate', 'dist', 'lib', 'cli')), kept)
  t.ok(existsSync(kept))
})

t.test('of a checkout in its own node_modules', async (t) => {
  const root = t.testdir({ lib: { cli: {} } })
  // The folder of a test lies below a `.tap`, not below a `node_modules`.
  t.equal(cacheFolder(join(root, 'lib', 'cli')), join(root, 'node_modules', '.cache', 'headgate'))
})

t.test('what the environment says about it counts, and nothing is kept where nothing can be written', async (t) => {
  const root = t.testdir({ lib: { cli: {} }, file: '' })
  const from = join(root, 'lib', 'cli')
  const own = join(root, 'own')
  t.equal(cacheFolder(from, { NODE_COMPILE_CACHE: own }), own)
  t.equal(cacheFolder(from, { NODE_DISABLE_COMPILE_CACHE: '1' }), 'none')
  t.equal(cacheFolder(join(root, 'file', 'lib', 'cli')), 'none')
  t.notOk(existsSync(join(root, 'node_modules')))
})

t.test('nothing is taken from a folder that everybody may write to', async (t) => {
  for (const open of ['.cache', join('.cache', 'headgate')]) {
    const root = t.testdir({ lib: { cli: {} }, node_modules: { '.cache': { headgate: {} } } })
    const from = join(root, 'lib', 'cli')
    chmodSync(join(root, 'node_modules', open), 0o777)
    t.equal(cacheFolder(from), 'none', open)
    chmodSync(join(root, 'node_modules', open), 0o755)
    t.not(cacheFolder(from), 'none')
  }
})
