import type { StringValue } from '@bufbuild/protobuf/wkt'
import { credentials, Metadata, makeGenericClientConstructor, type ServiceError, status } from '@grpc/grpc-js'
import { GREETER, text } from './service.ts'

const { hello, spell, chat } = GREETER
const Client = makeGenericClientConstructor({}, 'Greeter')
const client = new Client(process.argv[2] ?? '127.0.0.1:10000', credentials.createInsecure())

/** One unary call: its answer, or the status that came instead. */
function ask(name: string, path = hello.path, deadlineMs = 5_000): Promise<string> {
  const deadline = Date.now() + deadlineMs
  return new Promise((resolve) => {
    const answer = (error: ServiceError | null, message?: StringValue): void =>
      resolve(error === null ? String(message?.value) : `${status[error.code]} ${error.details}`.trim())
    client.makeUnaryRequest(
      path,
      hello.requestSerialize,
      hello.responseDeserialize,
      text(name),
      new Metadata(),
      { deadline },
      answer,
    )
  })
}

console.log(await ask('world'))
console.log(await ask(''))
console.log((await ask('sleeper', hello.path, 200)).replace(/ .*/, ''))
console.log((await ask('anybody', '/example.Stranger/Hello')).replace(/ .*/, ''))

const letters: string[] = []
const spelling = client.makeServerStreamRequest(
  spell.path,
  spell.requestSerialize,
  spell.responseDeserialize,
  text('gRPC'),
)
for await (const { value } of spelling as AsyncIterable<StringValue>) letters.push(value)
console.log(letters.join(' '))

const talk = client.makeBidiStreamRequest(chat.path, chat.requestSerialize, chat.responseDeserialize)
const answers = (talk as AsyncIterable<StringValue>)[Symbol.asyncIterator]()
for (const word of ['proxies', 'trailers']) {
  talk.write(text(word))
  console.log((await answers.next()).value?.value)
}
talk.end()
console.log((await answers.next()).done === true ? 'bye' : 'more?')
client.close()
