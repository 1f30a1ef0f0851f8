import 'reflect-metadata'
import { type Metadata, Server, ServerCredentials, status } from '@grpc/grpc-js'
import * as x509 from '@peculiar/x509'
import type { Authority, Issued } from './certificates.ts'

/** What one request brought. */
export interface CertificateAsk {
  readonly authorization: string
  readonly clusterId: string
  /** Names of the request. */
  readonly names: readonly x509.JsonGeneralName[]
  readonly subject: string
  readonly validityS: number
}

/** What the CA does wrong, if anything. */
export interface CaBehaviour {
  /** Refuses with PERMISSION_DENIED. */
  refuse?: boolean
  /** Issues for this identity instead of the one asked for. */
  otherIdentity?: string
  /** Issues for a key of its own. */
  otherKey?: boolean
  /** Leaves out the authority. */
  withoutRoots?: boolean
  /** Gives this, PEM, as its authority. */
  roots?: string
  /** Certificates begin and end so many days from now. */
  fromDays?: number
  toDays?: number
}

/** An Istio CA on @grpc/grpc-js: `IstioCertificateService.CreateCertificate`, with one token that it believes. */
export class IstioCa {
  readonly asked: CertificateAsk[] = []
  readonly behaviour: CaBehaviour = {}
  readonly authority: Authority
  /** Its own certificate. */
  readonly own: Issued
  readonly #token: string
  readonly #server = new Server()
  port = 0

  private constructor(authority: Authority, own: Issued, token: string) {
    this.authority = authority
    this.own = own
    this.#token = token
  }

  static async start(authority: Authority, own: Issued, token: string, at = 0): Promise<IstioCa> {
    const ca = new IstioCa(authority, own, token)
    ca.#server.addService(
      {
        createCertificate: {
          path: '/istio.v1.auth.IstioCertificateService/CreateCertificate',
          requestStream: false,
          responseStream: false,
          requestSerialize: (bytes: Buffer) => bytes,
          requestDeserialize: (bytes: Buffer) => bytes,
          responseSerialize: (bytes: Buffer) => bytes,
          responseDeserialize: (bytes: Buffer) => bytes,
        },
      },
      {
        createCertificate: (
          call: { request: Buffer; metadata: Metadata },
          done: (error: { code: number; details: string } | null, answer?: Buffer) => void,
        ) => {
          ca.#answer(call.request, call.metadata).then(
            (answer) => done(null, answer),
            (error: { code?: number; message: string }) =>
              done({ code: error.code ?? status.INTERNAL, details: error.message }),
          )
        },
      },
    )
    const credentials = ServerCredentials.createSsl(null, [
      { cert_chain: Buffer.from(own.chain), private_key: Buffer.from(own.key) },
    ])
    ca.port = await new Promise((resolve, reject) =>
      ca.#server.bindAsync(`127.0.0.1:${at}`, credentials, (error, port) => (error ? reject(error) : resolve(port))),
    )
    return ca
  }

  async #answer(bytes: Buffer, metadata: Metadata): Promise<Buffer> {
    const { csr, validityS } = readRequest(bytes)
    const request = new x509.Pkcs10CertificateRequest(csr)
    const san = request.getExtension('2.5.29.17')
    const names = san === null ? [] : new x509.SubjectAlternativeNameExtension(san.rawData).names.toJSON()
    const authorization = String(metadata.get('authorization')[0] ?? '')
    const clusterId = String(metadata.get('clusterid')[0] ?? '')
    this.asked.push({ authorization, clusterId, names, subject: request.subject, validityS })
    if (this.behaviour.refuse === true || authorization !== `Bearer ${this.#token}`) {
      throw Object.assign(new Error('not you'), { code: status.PERMISSION_DENIED })
    }
    if (!(await request.verify())) throw new Error('the request is not signed by its key')
    const { otherIdentity, otherKey = false, fromDays, toDays, withoutRoots = false, roots } = this.behaviour
    const uri = [otherIdentity ?? names[0].value]
    const issued = await this.authority.issue({
      uri,
      ...(fromDays !== undefined && { fromDays }),
      ...(toDays !== undefined && { toDays }),
      ...(!otherKey && { publicKey: request.publicKey }),
    })
    return writeResponse(withoutRoots ? [issued.chain] : [issued.chain, roots ?? this.authority.pem])
  }

  close(): void {
    this.#server.forceShutdown()
  }
}

/** By hand, so that it shares nothing with what it tests: 1 csr string, 3 validity_duration int64. */
function readRequest(bytes: Buffer): { csr: string; validityS: number } {
  let at = 0
  const varint = (): number => {
    let value = 0
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++]
      value += (byte & 127) * 2 ** shift
      if (byte < 128) return value
    }
  }
  let csr = ''
  let validityS = 0
  while (at < bytes.length) {
    const tag = varint()
    if (tag === 0x0a) {
      const size = varint()
      csr = bytes.toString('utf8', at, at + size)
      at += size
    } else if (tag === 0x18) validityS = varint()
    else throw new Error(`field ${tag >> 3} is not expected`)
  }
  return { csr, validityS }
}

/** 1 cert_chain string[], behind an unknown field 15 that readers must skip. */
function writeResponse(chain: readonly string[]): Buffer {
  const parts: Buffer[] = [Buffer.from([15 << 3, 1])]
  for (const text of chain) {
    const bytes = Buffer.from(text)
    const size: number[] = []
    for (let rest = bytes.length; ; rest >>>= 7) {
      if (rest < 128) {
        size.push(rest)
        break
      }
      size.push((rest & 127) | 128)
    }
    parts.push(Buffer.from([0x0a, ...size]), bytes)
  }
  return Buffer.concat(parts)
}
