/** Of plain and TLS sockets alike. */
export { resetConnection as resetSocket } from '../../lib/tls/raw-socket.ts'
