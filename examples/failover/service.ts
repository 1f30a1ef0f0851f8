import { createServer } from 'node:http'

/** `service.ts PORT…`: a service on each of these ports that says where it is, until `/sick` makes it fail. */
for (const port of process.argv.slice(2).map(Number)) {
  let sick = false
  const server = createServer((request, response) => {
    if (request.url === '/sick' || request.url === '/well') sick = request.url === '/sick'
    else if (sick) response.statusCode = 503
    response.end(`${port}\n`)
  })
  server.listen(port, '127.0.0.1', () => console.log(`service on ${port}`))
}
