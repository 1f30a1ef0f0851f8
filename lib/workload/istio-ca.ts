import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import type { GrpcMethod } from '../grpc/method.ts'

/** `istio.v1.auth.IstioCertificateRequest`; its `metadata` is not sent. */
export interface CertificateRequest {
  /** PKCS#10, PEM. */
  readonly csr: string
  readonly validityS: number
}

/** `istio.v1.auth.IstioCertificateResponse` */
export interface CertificateResponse {
  /** PEM: the certificate, intermediates, and last the authorities (which may be several blocks). */
  readonly chain: readonly string[]
}

const CSR = 1
const VALIDITY = 3
const CHAIN = 1

/** `istio.v1.auth.IstioCertificateService.CreateCertificate`: two messages, too few for a generated descriptor. */
export const createCertificate: GrpcMethod<CertificateRequest, CertificateResponse> = Object.freeze({
  path: '/istio.v1.auth.IstioCertificateService/CreateCertificate',
  encode: encodeRequest,
  decode: decodeResponse,
})

function encodeRequest({ csr, validityS }: CertificateRequest): Uint8Array {
  return new BinaryWriter()
    .tag(CSR, WireType.LengthDelimited)
    .string(csr)
    .tag(VALIDITY, WireType.Varint)
    .int64(validityS)
    .finish()
}

function decodeResponse(bytes: Uint8Array): CertificateResponse {
  const reader = new BinaryReader(bytes)
  const chain: string[] = []
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag()
    if (field === CHAIN && type === WireType.LengthDelimited) chain.push(reader.string())
    else reader.skip(type, field)
  }
  return { chain }
}
