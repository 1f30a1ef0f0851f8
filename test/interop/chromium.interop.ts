import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { certificatesFor } from './certificates.ts'
import { cluster } from './envoy/group.ts'
import { startGateway } from './gateway.ts'
import { downstreamTls } from './gateway-config.ts'
import { run } from './process.ts'
import { needing, program } from './programs.ts'
import { folderFor } from './servers.ts'

/** A browser loads a page of 100 resources through Headgate, over TLS and HTTP/2. */

t.setTimeout(200_000)

const SCRIPTS = 50
const STYLES = 30
const IMAGES = 20
const RESOURCES = SCRIPTS + STYLES + IMAGES

/** What the page writes into itself when it has loaded. */
interface Report {
  readonly page: string
  /** Protocol and status of each resource. */
  readonly resources: readonly string[]
  /** Bytes of all bodies. */
  readonly bytes: number
  readonly scripts: number
  readonly styles: number
  readonly images: number
}

const REPORTING = `
const report = () => {
  const entries = performance.getEntriesByType('resource')
  const text = JSON.stringify({
    page: performance.getEntriesByType('navigation')[0].nextHopProtocol,
    resources: entries.map((e) => e.nextHopProtocol + ' ' + e.responseStatus),
    bytes: entries.reduce((sum, e) => sum + e.decodedBodySize, 0),
    scripts: window.ran ?? 0,
    styles: [...document.styleSheets].filter((sheet) => sheet.cssRules.length === 1).length,
    images: [...document.images].filter((image) => image.complete && image.naturalWidth === 7).length,
  })
  const element = document.body.appendChild(document.createElement('pre'))
  element.id = 'report'
  element.textContent = btoa(text)
}
addEventListener('load', report)`

function page(): string {
  const many = (count: number, tag: (index: number) => string): string =>
    Array.from({ length: count }, (_, i) => tag(i)).join('\n')
  return `<!doctype html><html><head><script>${REPORTING}</script>
${many(STYLES, (i) => `<link rel="stylesheet" href="/style-${i}.css">`)}
${many(SCRIPTS, (i) => `<script src="/script-${i}.js"></script>`)}
</head><body>${many(IMAGES, (i) => `<img src="/image-${i}.svg">`)}</body></html>`
}

/** Content and type of a path; sizes from a few bytes to 100 KiB. */
function resource(path: string): readonly [string, string] | undefined {
  const index = Number(/\d+/.exec(path)?.[0])
  const padding = ' '.repeat(index * 2_048)
  if (path === '/') return [page(), 'text/html']
  if (path.endsWith('.js')) return [`window.ran = (window.ran ?? 0) + 1;${padding}`, 'text/javascript']
  if (path.endsWith('.css')) return [`p { color: black }${padding}`, 'text/css']
  if (!path.endsWith('.svg')) return undefined
  return [`<svg xmlns="http://www.w3.org/2000/svg" width="7" height="7">${padding}</svg>`, 'image/svg+xml']
}

async function startSite(t: Test): Promise<number> {
  const server = http.createServer((request, response) => {
    const found = resource(request.url ?? '/')
    if (found === undefined) response.writeHead(404).end()
    else response.writeHead(200, { 'content-type': found[1] }).end(found[0])
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(async () => {
    server.close()
    server.closeAllConnections()
    await once(server, 'close')
  })
  return (server.address() as AddressInfo).port
}

t.test(`Chromium: a page and its ${RESOURCES} resources arrive in HTTP/2`, needing('chromium'), async (t) => {
  const certificates = await certificatesFor(t)
  const tls = downstreamTls([await certificates.issue({ ip: ['127.0.0.1'] })])
  const gateway = await startGateway(t, [{ tls }], [cluster('origin', [await startSite(t)])])
  const home = folderFor(t)
  const { out, err } = await run(
    program('chromium'),
    [
      ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'],
      ...['--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-proxy-server'],
      ...['--ignore-certificate-errors', '--timeout=60000', `--user-data-dir=${home}/profile`],
      ...['--dump-dom', `https://127.0.0.1:${gateway.port()}/`],
    ],
    { timeoutMs: 90_000, env: { HOME: home } },
  )
  const encoded = /<pre id="report">([^<]*)</.exec(out.toString('utf8'))?.[1]
  t.ok(encoded, `the page has loaded ${encoded === undefined ? err.slice(-2_000) : ''}`)
  if (encoded === undefined) return
  const report = JSON.parse(Buffer.from(encoded, 'base64').toString('utf8')) as Report
  t.equal(report.page, 'h2')
  t.same(
    report.resources,
    Array.from({ length: RESOURCES }, () => 'h2 200'),
  )
  t.same([report.scripts, report.styles, report.images], [SCRIPTS, STYLES, IMAGES], 'each was whole enough to be used')
  const paths = [
    ...Array.from({ length: SCRIPTS }, (_, i) => `/script-${i}.js`),
    ...Array.from({ length: STYLES }, (_, i) => `/style-${i}.css`),
    ...Array.from({ length: IMAGES }, (_, i) => `/image-${i}.svg`),
  ]
  const bytes = paths.reduce((sum, path) => sum + (resource(path)?.[0].length ?? 0), 0)
  t.equal(report.bytes, bytes, 'to the last byte')
  const lines = await gateway.log(RESOURCES + 1)
  t.same([...new Set(lines.map(({ protocol }) => protocol))], ['HTTP/2'])
  await gateway.assertUnharmed(t)
})
