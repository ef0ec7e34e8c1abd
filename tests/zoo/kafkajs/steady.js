// kafkajs as an application that produces and consumes until its standard input ends; see "Steady clients" in
// tests/zoo/README.md.
'use strict';

const fs = require('node:fs');
const { Kafka, logLevel } = require('kafkajs');
const { version } = require('kafkajs/package.json');

const PAUSE_MS = 20, MEMBERS = 2, END_SECONDS = 60;
const [bootstrap, topic, partitionCount, historyPath] = process.argv.slice(2);
const partitions = Number(partitionCount);
const history = fs.openSync(historyPath, 'w');
const errors = [], acknowledgedAt = new Map(), readTo = new Map();
let acknowledged = 0, consumed = 0, longestPause = 0, sending = true;

process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1';
const kafka = new Kafka({ brokers: bootstrap.split(','), clientId: 'steady', logLevel: logLevel.NOTHING });
const clock = () => Number(process.hrtime.bigint() / 1000n);
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));
const write = line => fs.writeSync(history, JSON.stringify(line) + '\n');
const complain = (where, error) => errors.push(`${where}: ${error?.name}: ${error?.message}`);

// One record a request: of a request for several partitions kafkajs forgets those whose new leader has already answered for its
// own, when a leader moves, and says that all was well.
async function produceTo(producer, partition) {
  for (let value = partition + 1; sending; value += partitions) {
    const from = clock();
    const sent = offset => write({
      op: 'send', result: offset === null ? 'info' : 'ok', client: `p.${partition}`, from, to: clock(), idempotent: true,
      items: [[`${topic}-${partition}`, offset, value]],
    });
    try {
      const [{ baseOffset }] = await producer.send({
        topic, acks: -1, messages: [{ partition, value: `${value}:${'x'.repeat(value % 200)}` }],
      });
      sent(Number(baseOffset));
      const at = clock();
      if (acknowledgedAt.has(partition)) longestPause = Math.max(longestPause, at - acknowledgedAt.get(partition));
      acknowledgedAt.set(partition, at);
      acknowledged++;
    } catch (error) {
      complain('produce', error);
      sent(null);
    }
    await sleep(PAUSE_MS);
  }
}

async function produce() {
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
  await producer.connect();
  await Promise.all([...Array(partitions).keys()].map(p => produceTo(producer, p)));
  await producer.disconnect();
}

async function member(number) {
  const consumer = kafka.consumer({ groupId: `${topic}-group` });
  const fresh = new Set();
  consumer.on(consumer.events.CRASH, e => complain(`member ${number} crashed`, e.payload.error));
  consumer.on(consumer.events.GROUP_JOIN, e => (e.payload.memberAssignment[topic] ?? []).forEach(p => fresh.add(p)));
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({
    partitionsConsumedConcurrently: partitions,
    eachBatch: async ({ batch: { partition, messages } }) => {
      if (messages.length === 0) return;
      const at = clock();
      write({
        op: 'poll', result: 'ok', client: `m${number}.${partition}`, from: at, to: at, ...(fresh.delete(partition) && { reset: true }),
        items: messages.map(m => [`${topic}-${partition}`, Number(m.offset), Number(m.value.toString().split(':')[0])]),
      });
      consumed += messages.length;
      readTo.set(partition, Math.max(readTo.get(partition) ?? 0, Number(messages.at(-1).offset) + 1));
    },
  });
  return consumer;
}

async function reachEnds() {
  const admin = kafka.admin();
  await admin.connect();
  const ends = await admin.fetchTopicOffsets(topic);
  await admin.disconnect();
  const reached = () => ends.every(e => (readTo.get(e.partition) ?? 0) >= Number(e.high));
  for (let i = 0; i < END_SECONDS * 20 && !reached(); i++) await sleep(50);
  if (reached()) return true;
  complain('at the end', new Error(`read to ${JSON.stringify([...readTo])} of ${JSON.stringify(ends)}`));
  return false;
}

async function main() {
  write({ history: 1 });
  const ended = new Promise(resolve => process.stdin.on('end', resolve).resume());
  const producing = produce().catch(error => complain('producer', error));
  const members = await Promise.all([...Array(MEMBERS).keys()].map(member));
  while (acknowledgedAt.size < partitions || readTo.size < partitions) await sleep(PAUSE_MS);
  console.log(JSON.stringify({ ready: true }));
  await ended;
  sending = false;
  await producing;
  if (await reachEnds()) write({ final_reads: true });
  await Promise.all(members.map(m => m.disconnect()));
  fs.closeSync(history);
  console.log(JSON.stringify({
    client: 'kafkajs', version, acknowledged, consumed, longest_pause_ms: Math.round(longestPause / 1000),
    errors: errors.slice(0, 20), error_count: errors.length,
  }));
  process.exit(errors.length ? 1 : 0);
}

main();
