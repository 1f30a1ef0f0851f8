import type { StringValue } from '@bufbuild/protobuf/wkt'
import {
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
  status,
} from '@grpc/grpc-js'
import { GREETER, text } from './service.ts'

const server = new Server()
server.addService(GREETER, {
  hello(call: ServerUnaryCall<StringValue, StringValue>, done: sendUnaryData<StringValue>) {
    const name = call.request.value
    if (name === '') done({ code: status.INVALID_ARGUMENT, details: 'who are you?' }, null)
    else if (name !== 'sleeper') done(null, text(`hello, ${name}`))
    // The sleeper is never answered: its deadline ends the call.
  },
  spell(call: ServerWritableStream<StringValue, StringValue>) {
    for (const letter of call.request.value) call.write(text(letter))
    call.end()
  },
  chat(call: ServerDuplexStream<StringValue, StringValue>) {
    call.on('data', ({ value }: StringValue) => call.write(text(`${value}, you say?`)))
    call.on('end', () => call.end())
  },
})

const address = process.argv[2] ?? '127.0.0.1:50051'
server.bindAsync(address, ServerCredentials.createInsecure(), (error, port) => {
  if (error !== null) throw error
  console.log(`greeter on 127.0.0.1:${port}`)
})
process.once('SIGTERM', () => server.forceShutdown())
