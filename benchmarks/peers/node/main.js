// A plain gateway in Node: Fastify, fast-xml-parser and @platformatic/kafka. One event a state, in
// one send for the document; it answers with the ids once the broker has acknowledged all of them.
import { randomUUID } from 'node:crypto'
import { ProduceAcks, Producer, stringSerializers } from '@platformatic/kafka'
import { XMLBuilder, XMLParser } from 'fast-xml-parser'
import Fastify from 'fastify'

// The client asks for Node 22, and this is all of it that Node 20 lacks.
Promise.withResolvers ??= function () {
  const deferred = {}
  deferred.promise = new this((resolve, reject) => Object.assign(deferred, { resolve, reject }))
  return deferred
}

const { PORT, KAFKA_BOOTSTRAP_SERVERS, TOPIC } = process.env

const producer = new Producer({
  clientId: 'peer',
  bootstrapBrokers: KAFKA_BOOTSTRAP_SERVERS.split(','),
  serializers: stringSerializers,
  acks: ProduceAcks.ALL,
  idempotent: true
})

const parser = new XMLParser({
  ignoreAttributes: false,
  attributeNamePrefix: '',
  textNodeName: 'status',
  parseTagValue: false,
  isArray: name => name === 'state'
})
const builder = new XMLBuilder()

const app = Fastify({ bodyLimit: 4 * 1024 * 1024 })

app.addContentTypeParser('text/xml', { parseAs: 'string' }, async (_, body) => parser.parse(body))

app.post('/webhook', async (request, reply) => {
  const states = request.body.response.state ?? []
  const time = new Date().toISOString()
  await producer.send({ messages: states.map(state => message(state, time)) })
  reply.type('text/xml; charset=utf-8')
  const ids = states.map(state => state.id_sms)
  return `<?xml version="1.0" encoding="utf-8"?>${builder.build({ response: { id_sms: ids } })}`
})

function message(state, time) {
  const event = {
    specversion: '1.0',
    id: randomUUID(),
    source: 'urn:example:sms:main',
    type: `com.example.messaging.status.${state.status}`,
    subject: state.id_sms,
    time,
    datacontenttype: 'application/json',
    data: state
  }
  return { topic: TOPIC, key: state.id_sms, value: JSON.stringify(event) }
}

process.on('SIGTERM', async () => {
  await app.close()
  await producer.close()
})

await app.listen({ host: '127.0.0.1', port: Number(PORT) })
