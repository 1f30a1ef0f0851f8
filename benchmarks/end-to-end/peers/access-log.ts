import type { IncomingMessage, ServerResponse } from 'node:http'
import sonicBoom from 'sonic-boom'

/** Appends one line per finished response, batched by sonic-boom; undefined without a log file. */
export function accessLog(file: string | undefined): ((req: IncomingMessage, res: ServerResponse) => void) | undefined {
  if (file === undefined) return undefined
  const sink = new sonicBoom.SonicBoom({ dest: file, minLength: 8192, sync: false })
  return (req, res) => {
    const start = performance.now()
    res.once('finish', () => {
      const took = (performance.now() - start).toFixed(0)
      const id = req.headers['x-request-id'] ?? '-'
      const agent = req.headers['user-agent'] ?? '-'
      sink.write(
        `[${new Date().toISOString()}] "${req.method} ${req.url} HTTP/${req.httpVersion}" ${res.statusCode} ${took} ` +
          `"${req.headers['x-forwarded-for'] ?? '-'}" "${agent}" "${id}" "${req.headers.host ?? '-'}"\n`,
      )
    })
  }
}
