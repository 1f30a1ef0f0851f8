import { once } from 'node:events'
import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  createSecureServer,
  type Http2SecureServer,
  type ServerHttp2Stream,
} from 'node:http2'
import { connect as netConnect, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Test } from 'tap'
import { Authority, type Issued } from '../support/certificates.ts'

/** Both sides of HBONE by `node:http2`: the independent peer of these tests. */

export const TRUST_DOMAIN = 'cluster.test'

export function spiffe(account: string, trustDomain = TRUST_DOMAIN): string {
  return `spiffe://${trustDomain}/ns/demo/sa/${account}`
}

/** One authority and the certificates of some workloads. */
export class Mesh {
  readonly authority: Authority
  readonly #issued = new Map<string, Issued>()

  private constructor(authority: Authority) {
    this.authority = authority
  }

  static async create(): Promise<Mesh> {
    return new Mesh(await Authority.create('CN=Mesh Root'))
  }

  /** The certificate of one workload; with another trust domain that of a stranger whom the same authority knows. */
  async workload(account: string, trustDomain = TRUST_DOMAIN): Promise<Issued> {
    const uri = spiffe(account, trustDomain)
    const known = this.#issued.get(uri)
    if (known !== undefined) return known
    const issued = await this.authority.issue({ uri: [uri] })
    this.#issued.set(uri, issued)
    return issued
  }
}

export interface Tunnel {
  readonly status: number
  readonly headers: { readonly [name: string]: unknown }
  readonly stream: ClientHttp2Stream
}

/** A client that asks for tunnels. */
export class HboneClient {
  readonly session: ClientHttp2Session

  private constructor(session: ClientHttp2Session) {
    this.session = session
  }

  /** Resolves when the server has sent its SETTINGS; rejects where it ends the connection before. */
  static async open(t: Test, port: number, mesh: Mesh, who: Issued | undefined): Promise<HboneClient> {
    const session = connect(`https://127.0.0.1:${port}`, {
      ca: mesh.authority.pem,
      checkServerIdentity: () => undefined,
      ...(who && { cert: who.chain, key: who.key }),
    })
    t.teardown(() => session.destroy())
    session.on('error', () => {})
    await new Promise<void>((resolve, reject) => {
      session.once('remoteSettings', () => resolve())
      session.once('error', reject)
      session.once('close', () => reject(new Error('closed')))
    })
    return new HboneClient(session)
  }

  async tunnel(authority: string, headers: { readonly [name: string]: string } = {}): Promise<Tunnel> {
    const stream = this.session.request(
      { ':method': 'CONNECT', ':authority': authority, ...headers },
      { endStream: false },
    )
    stream.on('error', () => {})
    const [fields] = (await once(stream, 'response')) as [{ [name: string]: unknown }]
    return { status: Number(fields[':status']), headers: fields, stream }
  }
}

/** The answer to one HTTP/1 request on a stream, as text, up to where `until` is found. */
export async function ask(stream: Duplex, request: string, until: string | RegExp): Promise<string> {
  let text = ''
  stream.write(request)
  return new Promise((resolve, reject) => {
    const onData = (chunk: Buffer): void => {
      text += chunk.toString('latin1')
      if (typeof until === 'string' ? !text.includes(until) : !until.test(text)) return
      stream.off('data', onData)
      resolve(text)
    }
    stream.on('data', onData)
    stream.once('close', () => reject(new Error(`closed behind ${text}`)))
  })
}

/** Joins a granted tunnel to a port of this machine. */
export function joinTo(port: number): (stream: Duplex) => void {
  return (stream) => {
    const socket = netConnect({ port, host: '127.0.0.1', allowHalfOpen: true })
    socket.on('error', () => stream.destroy())
    stream.on('close', () => socket.destroy())
    stream.pipe(socket)
    socket.pipe(stream)
  }
}

export interface Seen {
  readonly authority: string
  readonly headers: { readonly [name: string]: unknown }
  readonly peer: string
  readonly session: unknown
}

/** A server of tunnels: an echo behind 200, unless `answer` says another status. */
export class HboneServer {
  readonly seen: Seen[] = []
  readonly sockets = new Set<Socket>()
  /** What becomes of a granted tunnel. */
  serve: (stream: Duplex, authority: string) => void = (stream) => void stream.pipe(stream)
  answer: (authority: string) => number = () => 200
  readonly #server: Http2SecureServer

  private constructor(server: Http2SecureServer) {
    this.#server = server
  }

  static async start(t: Test, mesh: Mesh, who: Issued, settings: object = {}): Promise<HboneServer> {
    const server = createSecureServer({
      ca: mesh.authority.pem,
      cert: who.chain,
      key: who.key,
      requestCert: true,
      rejectUnauthorized: true,
      settings,
    })
    const self = new HboneServer(server)
    server.on('secureConnection', (socket: Socket) => self.sockets.add(socket))
    server.on('stream', (stream: ServerHttp2Stream, headers) => {
      stream.on('error', () => {})
      const authority = String(headers[':authority'])
      const socket = stream.session?.socket as unknown as { getPeerX509Certificate(): { subjectAltName: string } }
      const peer = socket.getPeerX509Certificate().subjectAltName
      self.seen.push({ authority, headers, peer, session: stream.session })
      const status = self.answer(authority)
      stream.respond({ ':status': status }, { endStream: status !== 200 })
      if (status === 200) self.serve(stream, authority)
    })
    server.on('sessionError', () => {})
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    t.teardown(() => {
      for (const socket of self.sockets) socket.destroy()
      server.close()
    })
    return self
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port
  }
}
