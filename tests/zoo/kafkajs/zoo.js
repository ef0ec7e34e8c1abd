// kafkajs against a broker. snappy, lz4 and zstd come from packages that need no compiler.
'use strict';

const { spawn } = require('node:child_process');
const { parseArgs } = require('node:util');
const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = require('kafkajs');
const lz4 = require('lz4-napi');
const zstd = require('@bokuweb/zstd-wasm');

const GROUP_RECORDS = 400, GROUP_PARTITIONS = 8, VICTIM_RECORDS = 10, BASE_TIME = 1_600_000_000_000;
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    bootstrap: { type: 'string' }, 'run-id': { type: 'string' }, only: { type: 'string', default: '' },
    victim: { type: 'boolean' },
  },
});
const only = new Set(options.only.split(',').filter(Boolean));
const { version } = require('kafkajs/package.json');

CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy');
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
});
const zstdReady = zstd.init();
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => { await zstdReady; return Buffer.from(zstd.compress(encoder.buffer, 3)); },
  decompress: async buffer => { await zstdReady; return Buffer.from(zstd.decompress(buffer)); },
});

process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1';
const kafka = new Kafka({ brokers: [options.bootstrap], clientId: 'zoo', logLevel: logLevel.NOTHING,
  retry: { retries: 6, initialRetryTime: 50 } });
const admin = kafka.admin();

class NotOffered extends Error {}

const name = what => `zoo-kafkajs-${options['run-id']}-${what}`;
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

function expectEqual(got, want, what) {
  const [a, b] = [JSON.stringify(got), JSON.stringify(want)];
  if (a !== b) throw new Error(`${what}: got ${a?.slice(0, 300)}, expected ${b?.slice(0, 300)}`);
}

function expect(condition, what) {
  if (!condition) throw new Error(what);
}

async function expectError(type, promise) {
  try {
    await promise;
  } catch (error) {
    const found = error.errors?.[0] ?? error;  // an aggregate holds one error for each topic
    const all = [found, found.cause, found.originalError].filter(Boolean);
    if (all.some(e => e.type === type)) return `${type}: ${found.message}`;
    throw new Error(`expected ${type}, got ${error.name} ${error.type ?? ''} ${error.message}`);
  }
  throw new Error(`expected ${type}, but it succeeded`);
}

async function waitUntil(what, seconds, condition) {
  for (const end = Date.now() + seconds * 1000; !(await condition()); await sleep(30)) {
    if (Date.now() > end) throw new Error(`after ${seconds} s still not: ${what}`);
  }
}

async function run(check, body) {
  if (only.size && !only.has(check)) return;
  const start = Date.now();
  let result = 'ok', detail = '';
  try {
    detail = (await body()) ?? '';
  } catch (error) {
    result = error instanceof NotOffered ? 'n/a' : 'fail';
    detail = result === 'n/a' ? error.message : `${error.name}: ${error.message}`;
  }
  console.log(JSON.stringify({ client: 'kafkajs', version, check, result, detail, ms: Date.now() - start }));
}

// Values of many sizes; every other one does not compress.
function payloads() {
  return [0, 1, 7, 256, 1000, 1000, 10_000, 10_000, 100_000, 100_000].map((size, i) => {
    const value = Buffer.alloc(size, `millrace-${i} `);
    for (let j = 0, state = 12345 + i; i % 2 && j < size; j++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      value[j] = state >>> 24;
    }
    return value;
  });
}

const numbers = (from, to) => Array.from({ length: to - from }, (_, i) => String(from + i));

async function create(what, numPartitions = 1, config = {}) {
  const topic = name(what);
  const configEntries = Object.entries(config).map(([key, value]) => ({ name: key, value }));
  await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: -1, configEntries }], waitForLeaders: false });
  await waitUntil('the new topic in the metadata', 10, async () => (await partitionsOf(topic)) === numPartitions);
  return topic;
}

async function partitionsOf(topic) {
  const { topics } = await admin.fetchTopicMetadata();  // of all topics: asking for a missing one would create it
  return topics.find(t => t.name === topic)?.partitions.length ?? 0;
}

async function send(topic, messages, { compression = CompressionTypes.None, ...config } = {}) {
  const producer = kafka.producer({ allowAutoTopicCreation: false, ...config });
  await producer.connect();
  try {
    await producer.send({ topic, compression, messages: messages.map(m => ({ partition: 0, ...m })) });
  } finally {
    await producer.disconnect();
  }
}

// A consumer that hands count messages to the caller, then is stopped. eachMessage may commit.
async function consume(topic, count, { groupId = name(`read-${topic}`), start, each = async () => {}, keep } = {}) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 6000, heartbeatInterval: 500, maxWaitTimeInMs: 100,
    rebalanceTimeout: 10000 });
  const got = [];
  await consumer.connect();
  try {
    await consumer.subscribe({ topic, fromBeginning: true });
    await consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        if (got.length === count) return;
        await each(consumer, partition, message);
        got.push(message);
      },
    });
    if (start !== undefined) consumer.seek({ topic, partition: 0, offset: String(start) });
    await waitUntil(`${count} messages`, 20, () => got.length >= count);
    await keep?.();
  } finally {
    await consumer.disconnect();
  }
  return got;
}

const commit = topic => (consumer, partition, message) =>
  consumer.commitOffsets([{ topic, partition, offset: String(BigInt(message.offset) + 1n) }]);
const texts = messages => messages.map(m => m.value?.toString() ?? null);

async function createTopic() {
  const topic = await create('create', 3);
  await waitUntil('three partitions', 10, async () => (await partitionsOf(topic)) === 3);
}

async function produce(codec, compression) {
  const topic = await create(`codec-${codec}`), sent = payloads();
  await send(topic, sent.map(value => ({ value })), { compression });
  const got = await consume(topic, sent.length);
  sent.forEach((value, i) => expect(value.equals(got[i].value), `value ${i} of ${value.length} B differs`));
}

async function recordFields() {
  const topic = await create('fields');
  const headers = { a: ['1', '2'], b: Buffer.from([0, 255]), empty: Buffer.alloc(0) };
  await send(topic, [...numbers(0, 5).map(i => ({ key: Buffer.from(`k\0${i}`), value: 'v', headers,
    timestamp: String(BASE_TIME + Number(i)) })), { value: 'no key' }]);
  const got = await consume(topic, 6);
  got.slice(0, 5).forEach((message, i) => {
    expectEqual(message.key.toString(), `k\0${i}`, 'key');
    expectEqual(message.timestamp, String(BASE_TIME + i), 'timestamp');
    expectEqual(message.headers.a.map(String), ['1', '2'], 'header a');
    expectEqual([...message.headers.b], [0, 255], 'header b');
    expectEqual(message.headers.empty.length, 0, 'empty header');
  });
  expectEqual([got[5].key, Object.keys(got[5].headers).length], [null, 0], 'message without key and headers');
}

async function nullValue() {
  const topic = await create('null');
  await send(topic, [{ key: 'gone', value: null }, { key: 'empty', value: Buffer.alloc(0) }]);
  expectEqual(texts(await consume(topic, 2)), [null, ''], 'values');
}

async function idempotent(what, maxInFlightRequests, together) {
  const topic = await create(what);
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests, allowAutoTopicCreation: false });
  await producer.connect();
  const sends = numbers(0, 100).map(i => () =>
    producer.send({ topic, acks: -1, messages: numbers(i * 20, i * 20 + 20).map(value => ({ partition: 0, value })) }));
  if (together) await Promise.all(sends.map(one => one()));
  else for (const one of sends) await one();
  await producer.disconnect();
  const got = texts(await consume(topic, 2000));
  expectEqual((await admin.fetchTopicOffsets(topic))[0].high, '2000', 'end offset');
  // The order of sends that were started together is not promised, the order inside each one is.
  if (together) expectEqual(got.map((value, i) => value - got[i - i % 20]), got.map((_, i) => i % 20), 'order inside sends');
  expectEqual(together ? got.sort((a, b) => a - b) : got, numbers(0, 2000), 'values');
}

// Forty messages, one second apart.
async function numberedTopic(what) {
  const topic = await create(what);
  await send(topic, numbers(0, 40).map(value => ({ value, timestamp: String(BASE_TIME + value * 1000) })));
  return topic;
}

async function consumeStart() {
  expectEqual(texts(await consume(await numberedTopic('start'), 40)), numbers(0, 40), 'values');
}

async function consumeOffset() {
  const got = await consume(await numberedTopic('offset'), 23, { start: 17 });
  expectEqual([got[0].offset, got[0].value.toString()], ['17', '17'], 'first message');
}

async function consumeTimestamp() {
  const topic = await numberedTopic('timestamp');
  const found = await admin.fetchTopicOffsetsByTimestamp(topic, BASE_TIME + 22_500);
  expectEqual(found[0].offset, '23', 'offset of the first message after 22.5 s');
  expectEqual(texts(await consume(topic, 1, { start: found[0].offset })), ['23'], 'first message');
}

function groupConsumer(topic, groupId, hold) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 6000, heartbeatInterval: 500, rebalanceTimeout: 10000,
    maxWaitTimeInMs: 100 });
  consumer.on(consumer.events.GROUP_JOIN, event => hold((event.payload.memberAssignment[topic] ?? []).length));
  return consumer;
}

async function startMember(topic, groupId, hold, each) {
  const consumer = groupConsumer(topic, groupId, hold);
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({ autoCommit: false, eachMessage: async ({ partition, message }) => each(consumer, partition, message) });
  return consumer;
}

function startVictim(topic, group, seen, held) {
  const child = spawn(process.execPath, [__filename, '--bootstrap', options.bootstrap, '--run-id', options['run-id'],
    '--victim', topic, group], { stdio: ['ignore', 'pipe', 'inherit'] });
  const state = { child, dying: false, closed: new Promise(resolve => child.on('close', resolve)) };
  require('node:readline').createInterface({ input: child.stdout }).on('line', line => {
    const [word, rest] = line.split(' ');
    if (word === 'assigned') held.victim = Number(rest);
    else if (word === 'seen') seen.push(rest);
    else if (word === 'dying') state.dying = true;
  });
  return state;
}

async function group(members) {
  const topic = await create(`group-${members}`, GROUP_PARTITIONS), groupId = name(`group-${members}`);
  const seen = [], held = {}, consumers = [];
  const victim = members > 1 ? startVictim(topic, groupId, seen, held) : null;
  try {
    await Promise.all(numbers(0, Math.max(members - 1, 1)).map(async i => {
      consumers.push(await startMember(topic, groupId, count => { held[i] = count; },
        async (consumer, partition, message) => {
          await commit(topic)(consumer, partition, message);
          seen.push(message.value.toString());
        }));
    }));
    await waitUntil('every member holds partitions', 25, () => {
      const counts = Object.values(held);
      return counts.length === members && counts.every(c => c > 0) && counts.reduce((a, b) => a + b) === GROUP_PARTITIONS;
    });
    await send(topic, numbers(0, GROUP_RECORDS).map(value => ({ value, partition: value % GROUP_PARTITIONS })));
    await waitUntil('all messages seen', 40, () => new Set(seen).size === GROUP_RECORDS);
  } finally {
    await Promise.all(consumers.map(consumer => consumer.disconnect()));
    victim?.child.kill('SIGKILL');
    await victim?.closed;
  }
  expectEqual(seen.length, GROUP_RECORDS, 'messages seen (more means seen twice)');
  const committed = (await admin.fetchOffsets({ groupId, topics: [topic] }))[0].partitions.map(p => p.offset);
  expectEqual(committed, Array(GROUP_PARTITIONS).fill(String(GROUP_RECORDS / GROUP_PARTITIONS)), 'committed offsets');
  if (!victim) return `${seen.length} records`;
  expect(victim.dying, 'the victim did not die by itself');
  return `${seen.length} records, ${VICTIM_RECORDS} by the member that was killed`;
}

async function runVictim(topic, groupId) {
  let count = 0;
  const say = text => new Promise(resolve => process.stdout.write(text + '\n', resolve));
  await startMember(topic, groupId, held => say(`assigned ${held}`), async (consumer, partition, message) => {
    if (count++ === VICTIM_RECORDS) {
      await say('dying');
      process.kill(process.pid, 'SIGKILL');
    }
    await commit(topic)(consumer, partition, message);
    await say(`seen ${message.value}`);
  });
}

async function commitResume() {
  const topic = await numberedTopic('resume'), groupId = name('resume');
  const first = await consume(topic, 15, { groupId, each: commit(topic) });
  const second = await consume(topic, 25, { groupId, each: commit(topic) });
  expectEqual(texts([...first, ...second]), numbers(0, 40), 'values');
}

async function configOf(topic, key) {
  const found = await admin.describeConfigs({ resources: [{ type: 2, name: topic }], includeSynonyms: false });
  return found.resources[0].configEntries.find(entry => entry.configName === key)?.configValue;
}

async function describeConfigs() {
  const topic = await create('configs', 1, { 'retention.ms': '1234567' });
  expectEqual(await configOf(topic, 'retention.ms'), '1234567', 'retention.ms');
  expectEqual(await configOf(topic, 'cleanup.policy'), 'delete', 'cleanup.policy');
}

async function alterConfigs() {
  const topic = await create('alter', 1, { 'retention.ms': '1234567' });
  await admin.alterConfigs({ resources: [{ type: 2, name: topic, configEntries: [{ name: 'segment.bytes', value: '2097152' }] }] });
  await waitUntil('segment.bytes changed', 10, async () => (await configOf(topic, 'segment.bytes')) === '2097152');
  await waitUntil('retention.ms back at its default', 10, async () => (await configOf(topic, 'retention.ms')) !== '1234567');
  return 'note: by AlterConfigs, which replaces all values; kafkajs has no incremental change';
}

async function listGroups() {
  const topic = await numberedTopic('list-groups'), groupId = name('list-groups');
  await consume(topic, 10, { groupId, each: commit(topic), keep: async () => {
    const found = (await admin.listGroups()).groups.find(g => g.groupId === groupId);
    expectEqual(found?.protocolType, 'consumer', 'protocol type of the listed group');
  } });
}

async function describeGroup() {
  const topic = await numberedTopic('describe-group'), groupId = name('describe-group');
  const state = async () => (await admin.describeGroups([groupId])).groups[0];
  await consume(topic, 10, { groupId, each: commit(topic), keep: async () => {
    const found = await state();
    expectEqual([found.state, found.members.length], ['Stable', 1], 'state and members');
    expect(found.members[0].memberAssignment.includes(topic), 'the topic is not in the assignment');
  } });
  await waitUntil('an empty group', 10, async () => (await state()).state === 'Empty');
}

async function listOffsets() {
  const topic = await numberedTopic('list-offsets'), groupId = name('list-offsets');
  await consume(topic, 10, { groupId, each: commit(topic) });
  const { low, high } = (await admin.fetchTopicOffsets(topic))[0];
  expectEqual([low, high], ['0', '40'], 'earliest and latest offset');
  expectEqual((await admin.fetchOffsets({ groupId, topics: [topic] }))[0].partitions[0].offset, '10', 'committed offset');
}

async function deleteRecords() {
  const topic = await numberedTopic('delete-records');
  await admin.fetchTopicOffsets(topic);  // the call below looks the leader up in metadata that it does not load itself
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '25' }] });
  expectEqual((await admin.fetchTopicOffsets(topic))[0].low, '25', 'earliest offset');
  expectEqual(texts(await consume(topic, 1)), ['25'], 'first message');
}

async function deleteTopic() {
  const topic = await create('delete');
  await admin.deleteTopics({ topics: [topic] });
  await waitUntil('the topic gone', 10, async () => (await partitionsOf(topic)) === 0);
}

async function errorTooLarge() {
  const topic = await create('large', 1, { 'max.message.bytes': '20000' });
  const text = await expectError('MESSAGE_TOO_LARGE', send(topic, [{ value: payloads()[9] }]));
  await send(topic, [{ value: 'small' }]);
  return text;
}

const errorUnknownTopic = () =>
  expectError('UNKNOWN_TOPIC_OR_PARTITION', admin.deleteTopics({ topics: [name('nowhere')], timeout: 3000 }));
const errorBadTopicName = () => expectError('INVALID_TOPIC_EXCEPTION', create('bad/name!'));

async function main() {
  if (options.victim) return runVictim(...positionals);
  await admin.connect();
  await run('create_topic', createTopic);
  for (const [codec, type] of [['none', 'None'], ['gzip', 'GZIP'], ['snappy', 'Snappy'], ['lz4', 'LZ4'], ['zstd', 'ZSTD']]) {
    await run(`produce_${codec}`, () => produce(codec, CompressionTypes[type]));
  }
  await run('record_fields', recordFields);
  await run('null_value', nullValue);
  await run('idempotent', () => idempotent('idempotent', 1, false));
  await run('idempotent_in_flight', () => idempotent('idempotent-in-flight', 5, true));
  await run('consume_start', consumeStart);
  await run('consume_offset', consumeOffset);
  await run('consume_timestamp', consumeTimestamp);
  await run('static_member', () => { throw new NotOffered('kafkajs has no static membership'); });
  await run('commit_resume', commitResume);
  await run('describe_configs', describeConfigs);
  await run('alter_configs', alterConfigs);
  await run('list_groups', listGroups);
  await run('describe_group', describeGroup);
  await run('list_offsets', listOffsets);
  await run('delete_records', deleteRecords);
  await run('delete_topic', deleteTopic);
  await run('error_too_large', errorTooLarge);
  await run('error_unknown_topic', errorUnknownTopic);
  await run('error_bad_topic_name', errorBadTopicName);
  await Promise.all([1, 2, 3, 4].map(n => run(`group_${n}`, () => group(n))));
  await admin.disconnect();
}

main().catch(error => {
  console.error(error);
  process.exit(1);
});
