/** The parts of a package.json that packing changes or leaves out. */
export interface Manifest {
  readonly [field: string]: unknown
  readonly bin: { readonly [command: string]: string }
  readonly exports: { readonly [entry: string]: string }
}

/** What only the repository needs: Node's binaries for a bare machine, tools, and scripts that run sources. */
const PRIVATE = ['scripts', 'devDependencies', 'optionalDependencies', 'private'] as const

/** The package.json of the published package: the repository's, where everything runs from what was built into `dist`. */
export function publishedManifest(manifest: Manifest): { [field: string]: unknown } {
  const published: { [field: string]: unknown } = { ...manifest }
  for (const field of PRIVATE) delete published[field]
  published.bin = mapValues(manifest.bin, (path) => `dist/${built(path)}`)
  published.exports = mapValues(manifest.exports, (path) => {
    if (!path.endsWith('.ts')) return path
    const module = `./dist/${built(path)}`
    return { types: module.replace(/\.js$/, '.d.ts'), default: module }
  })
  return published
}

/** `./lib/cli/main.ts` as `lib/cli/main.js`. */
function built(path: string): string {
  return path.replace(/^\.\//, '').replace(/\.ts$/, '.js')
}

function mapValues<T>(map: { readonly [key: string]: string }, change: (value: string) => T): { [key: string]: T } {
  return Object.fromEntries(Object.entries(map).map(([key, value]) => [key, change(value)]))
}
