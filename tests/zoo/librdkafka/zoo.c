/* librdkafka in C against a broker. Works with librdkafka 2.0 and later. */

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { group_records = 400, group_partitions = 8, victim_records = 10, name_size = 200 };
static const int64_t base_time = 1600000000000;

static const char *bootstrap, *run_id, *only = "", *self;
static rd_kafka_t* admin;
static pthread_mutex_t printing = PTHREAD_MUTEX_INITIALIZER;
static __thread char detail[1000];

typedef bool (*body_fn)(const void* argument);

/* Notes what went wrong. Always false, so that a check can return it. */
static bool fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(detail, sizeof detail, format, arguments);
  va_end(arguments);
  return false;
}

#define EXPECT(condition, ...)                  \
  do {                                          \
    if (!(condition)) return fail(__VA_ARGS__); \
  } while (0)

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void sleep_ms(int ms) {
  usleep((unsigned)ms * 1000);
}

static void run(const char* check, body_fn body, const void* argument) {
  char wanted[name_size], list[2000];
  snprintf(wanted, sizeof wanted, ",%s,", check);
  snprintf(list, sizeof list, ",%s,", only);
  if (*only && !strstr(list, wanted)) return;
  int64_t start = now_ms();
  detail[0] = 0;
  const char* result = body(argument) ? "ok" : "fail";
  if (!strncmp(detail, "n/a: ", 5)) {
    result = "n/a";
    memmove(detail, detail + 5, strlen(detail + 5) + 1);
  }
  pthread_mutex_lock(&printing);
  printf(
      "{\"client\": \"librdkafka\", \"version\": \"%s\", \"check\": \"%s\", \"result\": \"%s\", \"detail\": "
      "\"",
      rd_kafka_version_str(), check, result);
  for (const char* c = detail; *c; c++) {
    if (*c == '"' || *c == '\\') putchar('\\');
    putchar((unsigned char)*c < ' ' ? ' ' : *c);
  }
  printf("\", \"ms\": %lld}\n", (long long)(now_ms() - start));
  fflush(stdout);
  pthread_mutex_unlock(&printing);
}

static void name_of(char* name, const char* what) {
  snprintf(name, name_size, "zoo-librdkafka-%s-%s", run_id, what);
}

/* A configuration from pairs of keys and values, ended by NULL. */
static rd_kafka_conf_t* conf_of(const char* const* pairs) {
  char error[300];
  rd_kafka_conf_t* conf = rd_kafka_conf_new();
  rd_kafka_conf_set(conf, "bootstrap.servers", bootstrap, error, sizeof error);
  rd_kafka_conf_set(conf, "topic.metadata.refresh.interval.ms", "1000", error, sizeof error);
  for (; pairs && *pairs; pairs += 2) {
    if (rd_kafka_conf_set(conf, pairs[0], pairs[1], error, sizeof error) != RD_KAFKA_CONF_OK) {
      fprintf(stderr, "%s\n", error);
      abort();
    }
  }
  return conf;
}

#define PAIRS(...) ((const char* const[]){__VA_ARGS__, NULL})

static rd_kafka_t* client_of(rd_kafka_type_t type, rd_kafka_conf_t* conf) {
  char error[300];
  rd_kafka_t* client = rd_kafka_new(type, conf, error, sizeof error);
  if (!client) {
    fprintf(stderr, "%s\n", error);
    abort();
  }
  return client;
}

/* ---- administration: each call has one event for an answer ---- */

static rd_kafka_event_t* answer(rd_kafka_queue_t* queue) {
  rd_kafka_event_t* event = rd_kafka_queue_poll(queue, 20000);
  rd_kafka_queue_destroy(queue);
  if (!event)
    fail("no answer within 20 s");
  else if (rd_kafka_event_error(event))
    fail("%s", rd_kafka_event_error_string(event));
  else
    return event;
  return NULL;
}

static int partitions_of(const char* topic) {
  const rd_kafka_metadata_t* metadata;
  int count = 0;
  if (rd_kafka_metadata(admin, 1, NULL, &metadata, 10000)) return -1;
  for (int i = 0; i < metadata->topic_cnt; i++) {
    if (!strcmp(metadata->topics[i].topic, topic) && !metadata->topics[i].err)
      count = metadata->topics[i].partition_cnt;
  }
  rd_kafka_metadata_destroy(metadata);
  return count;
}

static bool await_partitions(const char* topic, int count) {
  for (int64_t end = now_ms() + 10000; partitions_of(topic) != count; sleep_ms(20)) {
    EXPECT(now_ms() < end, "%s has not %d partitions after 10 s", topic, count);
  }
  return true;
}

static rd_kafka_resp_err_t create_error(const char* topic, int partitions, const char* key,
                                        const char* value) {
  char error[300];
  rd_kafka_NewTopic_t* wanted = rd_kafka_NewTopic_new(topic, partitions, -1, error, sizeof error);
  if (key) rd_kafka_NewTopic_set_config(wanted, key, value);
  rd_kafka_queue_t* queue = rd_kafka_queue_new(admin);
  rd_kafka_CreateTopics(admin, &wanted, 1, NULL, queue);
  rd_kafka_NewTopic_destroy(wanted);
  rd_kafka_event_t* event = answer(queue);
  if (!event) return RD_KAFKA_RESP_ERR__FAIL;
  size_t count;
  const rd_kafka_topic_result_t** results =
      rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
  rd_kafka_resp_err_t code = rd_kafka_topic_result_error(results[0]);
  if (code) fail("%s", rd_kafka_topic_result_error_string(results[0]));
  rd_kafka_event_destroy(event);
  return code;
}

static bool create(char* topic, const char* what, int partitions, const char* key, const char* value) {
  name_of(topic, what);
  return !create_error(topic, partitions, key, value) && await_partitions(topic, partitions);
}

static rd_kafka_resp_err_t delete_error(const char* topic) {
  rd_kafka_DeleteTopic_t* wanted = rd_kafka_DeleteTopic_new(topic);
  rd_kafka_queue_t* queue = rd_kafka_queue_new(admin);
  rd_kafka_DeleteTopics(admin, &wanted, 1, NULL, queue);
  rd_kafka_DeleteTopic_destroy(wanted);
  rd_kafka_event_t* event = answer(queue);
  if (!event) return RD_KAFKA_RESP_ERR__FAIL;
  size_t count;
  const rd_kafka_topic_result_t** results =
      rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &count);
  rd_kafka_resp_err_t code = rd_kafka_topic_result_error(results[0]);
  if (code) fail("%s: %s", rd_kafka_err2name(code), rd_kafka_err2str(code));
  rd_kafka_event_destroy(event);
  return code;
}

static int64_t end_offset(const char* topic, int64_t* low) {
  int64_t first = -1, high = -1;
  rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(admin, topic, 0, &first, &high, 10000);
  if (code) fail("offsets of %s: %s", topic, rd_kafka_err2name(code));
  if (low) *low = first;
  return high;
}

/* ---- producing and consuming ---- */

typedef struct {
  const void* value;
  size_t size;
  const char* key;
  size_t key_size;
  int32_t partition;
  int64_t timestamp;
  bool with_headers;
} sent_t;

static const struct {
  const char *name, *value;
  ssize_t size;
} headers[] = {{"a", "1", 1}, {"b", "\0\377", 2}, {"a", "2", 1}, {"empty", "", 0}, {"null", NULL, 0}};

static void on_delivery(rd_kafka_t* client, const rd_kafka_message_t* message, void* opaque) {
  (void)client;
  rd_kafka_resp_err_t* first = opaque;
  if (message->err && !*first) *first = message->err;
}

static rd_kafka_resp_err_t send_all(const char* topic, const sent_t* sent, int count,
                                    const char* const* pairs) {
  rd_kafka_resp_err_t first = 0;
  rd_kafka_conf_t* conf = conf_of(pairs);
  rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
  rd_kafka_conf_set_opaque(conf, &first);
  rd_kafka_t* producer = client_of(RD_KAFKA_PRODUCER, conf);
  for (int i = 0; i < count && !first; i++) {
    rd_kafka_headers_t* all = sent[i].with_headers ? rd_kafka_headers_new(8) : NULL;
    for (size_t h = 0; all && h < sizeof headers / sizeof *headers; h++) {
      rd_kafka_header_add(all, headers[h].name, -1, headers[h].value, headers[h].size);
    }
    rd_kafka_resp_err_t code = rd_kafka_producev(
        producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(sent[i].partition),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY | RD_KAFKA_MSG_F_BLOCK),
        RD_KAFKA_V_VALUE((void*)sent[i].value, sent[i].size), RD_KAFKA_V_KEY(sent[i].key, sent[i].key_size),
        RD_KAFKA_V_TIMESTAMP(sent[i].timestamp), RD_KAFKA_V_HEADERS(all), RD_KAFKA_V_END);
    if (code && !first) first = code;
    rd_kafka_poll(producer, 0);
  }
  rd_kafka_resp_err_t code = rd_kafka_flush(producer, 30000);
  rd_kafka_destroy(producer);
  if (!first) first = code;
  if (first) fail("%s: %s", rd_kafka_err2name(first), rd_kafka_err2str(first));
  return first;
}

/* Values "from" to "to - 1"; texts must hold 8 bytes for each. */
static sent_t* numbers(char (*texts)[8], int from, int to) {
  sent_t* sent = calloc((size_t)(to - from), sizeof *sent);
  for (int i = from; i < to; i++) {
    snprintf(texts[i - from], 8, "%d", i);
    sent[i - from] = (sent_t){.value = texts[i - from], .size = strlen(texts[i - from])};
  }
  return sent;
}

/* The next count messages; the caller destroys them. False when twenty seconds are over. */
static bool poll_messages(rd_kafka_t* consumer, rd_kafka_message_t** got, int count) {
  int64_t end = now_ms() + 20000;
  for (int i = 0; i < count;) {
    EXPECT(now_ms() < end, "%d messages after 20 s, expected %d", i, count);
    rd_kafka_message_t* message = rd_kafka_consumer_poll(consumer, 100);
    if (!message) continue;
    EXPECT(!message->err, "%s", rd_kafka_message_errstr(message));
    got[i++] = message;
  }
  return true;
}

static void free_messages(rd_kafka_message_t** got, int count) {
  for (int i = 0; i < count; i++) rd_kafka_message_destroy(got[i]);
}

static rd_kafka_t* open_at(const char* topic, int64_t offset) {
  rd_kafka_t* consumer =
      client_of(RD_KAFKA_CONSUMER, conf_of(PAIRS("group.id", "unused", "enable.auto.commit", "false")));
  rd_kafka_topic_partition_list_t* parts = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(parts, topic, 0)->offset = offset;
  rd_kafka_assign(consumer, parts);
  rd_kafka_topic_partition_list_destroy(parts);
  return consumer;
}

static void close_consumer(rd_kafka_t* consumer) {
  rd_kafka_consumer_close(consumer);
  rd_kafka_destroy(consumer);
}

/* Reads from an offset and compares the values with what was sent. */
static bool read_back(const char* topic, int64_t offset, const sent_t* sent, int count) {
  rd_kafka_t* consumer = open_at(topic, offset);
  rd_kafka_message_t** got = calloc((size_t)count, sizeof *got);
  bool good = poll_messages(consumer, got, count);
  for (int i = 0; good && i < count; i++) {
    if (got[i]->len != sent[i].size ||
        (sent[i].size && memcmp(got[i]->payload, sent[i].value, sent[i].size)) ||
        !got[i]->payload != !sent[i].value) {
      good = fail("value %d differs: %zu bytes, sent %zu", i, got[i]->len, sent[i].size);
    }
  }
  if (good) free_messages(got, count);
  free(got);
  close_consumer(consumer);
  return good;
}

/* Forty records, one second apart. */
static bool numbered_topic(char* topic, const char* what) {
  char texts[40][8];
  if (!create(topic, what, 1, NULL, NULL)) return false;
  sent_t* sent = numbers(texts, 0, 40);
  for (int i = 0; i < 40; i++) sent[i].timestamp = base_time + i * 1000;
  bool good = !send_all(topic, sent, 40, NULL);
  free(sent);
  return good;
}

static bool numbers_follow(const char* topic, int64_t offset, int from) {
  char texts[40][8];
  sent_t* sent = numbers(texts, from, 40);
  bool good = read_back(topic, offset, sent, 40 - from);
  free(sent);
  return good;
}

/* ---- the checks ---- */

static bool create_topic(const void* unused) {
  (void)unused;
  char topic[name_size];
  return create(topic, "create", 3, NULL, NULL);
}

static bool produce(const void* codec) {
  static const size_t sizes[] = {0, 1, 7, 256, 1000, 1000, 10000, 10000, 100000, 100000};
  enum { count = sizeof sizes / sizeof *sizes };
  char topic[name_size], what[50];
  sent_t sent[count] = {0};
  snprintf(what, sizeof what, "codec-%s", (const char*)codec);
  if (!create(topic, what, 1, NULL, NULL)) return false;
  for (int i = 0; i < count; i++) {
    char* value = malloc(sizes[i] + 1);
    uint32_t state = 12345u + (uint32_t)i;
    for (size_t j = 0; j < sizes[i]; j++) {
      state = state * 1664525u + 1013904223u;
      value[j] = i % 2 ? (char)(state >> 24) : "millrace "[j % 9];
    }
    sent[i].value = value;
    sent[i].size = sizes[i];
  }
  bool good =
      !send_all(topic, sent, count, PAIRS("compression.type", codec)) && read_back(topic, 0, sent, count);
  for (int i = 0; i < count; i++) free((void*)sent[i].value);
  return good;
}

static bool record_fields(const void* unused) {
  (void)unused;
  char topic[name_size];
  if (!create(topic, "fields", 1, NULL, NULL)) return false;
  sent_t sent[2] = {{.value = "v",
                     .size = 1,
                     .key = "k\0y",
                     .key_size = 3,
                     .timestamp = base_time + 5,
                     .with_headers = true},
                    {.value = "w", .size = 1}};
  if (send_all(topic, sent, 2, NULL)) return false;
  rd_kafka_t* consumer = open_at(topic, 0);
  rd_kafka_message_t* got[2];
  if (!poll_messages(consumer, got, 2)) return false;
  EXPECT(got[0]->key_len == 3 && !memcmp(got[0]->key, "k\0y", 3), "the key differs");
  rd_kafka_timestamp_type_t type;
  EXPECT(rd_kafka_message_timestamp(got[0], &type) == base_time + 5 && type == RD_KAFKA_TIMESTAMP_CREATE_TIME,
         "the timestamp differs");
  rd_kafka_headers_t* all;
  EXPECT(!rd_kafka_message_headers(got[0], &all), "there are no headers");
  EXPECT(rd_kafka_header_cnt(all) == sizeof headers / sizeof *headers, "%zu headers",
         rd_kafka_header_cnt(all));
  for (size_t h = 0; h < sizeof headers / sizeof *headers; h++) {
    const char* name;
    const void* value;
    size_t size;
    rd_kafka_header_get_all(all, h, &name, &value, &size);
    EXPECT(!strcmp(name, headers[h].name) && size == (size_t)headers[h].size && !value == !headers[h].value &&
               (!size || !memcmp(value, headers[h].value, size)),
           "header %zu differs", h);
  }
  EXPECT(!got[1]->key && rd_kafka_message_headers(got[1], &all), "record without key and headers");
  free_messages(got, 2);
  close_consumer(consumer);
  return true;
}

static bool null_value(const void* unused) {
  (void)unused;
  char topic[name_size];
  sent_t sent[2] = {{.value = NULL, .key = "gone", .key_size = 4},
                    {.value = "", .key = "empty", .key_size = 5}};
  return create(topic, "null", 1, NULL, NULL) && !send_all(topic, sent, 2, NULL) &&
         read_back(topic, 0, sent, 2);
}

static bool idempotent(const void* in_flight) {
  char topic[name_size], what[50];
  static __thread char texts[5000][8];
  snprintf(what, sizeof what, "idempotent-%s", (const char*)in_flight);
  if (!create(topic, what, 1, NULL, NULL)) return false;
  sent_t* sent = numbers(texts, 0, 5000);
  bool good = !send_all(topic, sent, 5000,
                        PAIRS("enable.idempotence", "true", "batch.num.messages", "20", "linger.ms", "0",
                              "max.in.flight.requests.per.connection", in_flight)) &&
              read_back(topic, 0, sent, 5000);
  free(sent);
  EXPECT(!good || end_offset(topic, NULL) == 5000, "the end offset is not 5000");
  return good;
}

static rd_kafka_t* group_consumer(const char* group, const char* instance, void* opaque,
                                  void (*on_rebalance)(rd_kafka_t*, rd_kafka_resp_err_t,
                                                       rd_kafka_topic_partition_list_t*, void*)) {
  rd_kafka_conf_t* conf =
      conf_of(PAIRS("group.id", group, "auto.offset.reset", "earliest", "enable.auto.commit", "false",
                    "session.timeout.ms", instance ? "20000" : "6000", "heartbeat.interval.ms", "500",
                    instance ? "group.instance.id" : NULL, instance));
  rd_kafka_conf_set_opaque(conf, opaque);
  if (on_rebalance) rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
  rd_kafka_t* consumer = client_of(RD_KAFKA_CONSUMER, conf);
  rd_kafka_poll_set_consumer(consumer);
  return consumer;
}

static void subscribe(rd_kafka_t* consumer, const char* topic) {
  rd_kafka_topic_partition_list_t* topics = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(topics, topic, RD_KAFKA_PARTITION_UA);
  rd_kafka_subscribe(consumer, topics);
  rd_kafka_topic_partition_list_destroy(topics);
}

static bool consume_start(const void* unused) {
  (void)unused;
  char topic[name_size];
  if (!numbered_topic(topic, "start")) return false;
  rd_kafka_t* consumer = group_consumer(topic, NULL, NULL, NULL);
  subscribe(consumer, topic);
  rd_kafka_message_t* got[40];
  if (!poll_messages(consumer, got, 40)) return false;
  for (int i = 0; i < 40; i++) EXPECT(got[i]->offset == i, "offset %d is %lld", i, (long long)got[i]->offset);
  free_messages(got, 40);
  close_consumer(consumer);
  return true;
}

static bool consume_offset(const void* unused) {
  (void)unused;
  char topic[name_size];
  return numbered_topic(topic, "offset") && numbers_follow(topic, 17, 17);
}

static bool consume_timestamp(const void* unused) {
  (void)unused;
  char topic[name_size];
  if (!numbered_topic(topic, "timestamp")) return false;
  rd_kafka_topic_partition_list_t* parts = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(parts, topic, 0)->offset = base_time + 22500;
  rd_kafka_resp_err_t code = rd_kafka_offsets_for_times(admin, parts, 10000);
  int64_t found = parts->elems[0].offset;
  rd_kafka_topic_partition_list_destroy(parts);
  EXPECT(!code && found == 23, "offset after 22.5 s: %lld (%s)", (long long)found, rd_kafka_err2name(code));
  return numbers_follow(topic, found, 23);
}

/* A group's records: how often each was seen, and how many partitions each member holds. */
typedef struct {
  pthread_mutex_t lock;
  int seen[group_records];
  int held[5];
  bool stop, dying;
  char error[300], topic[name_size], group[name_size];
} group_t;

typedef struct {
  group_t* group;
  int index;
  int rebalances;
} member_t;

static void hold(member_t* member, int count) {
  pthread_mutex_lock(&member->group->lock);
  member->group->held[member->index] = count;
  member->rebalances++;
  pthread_mutex_unlock(&member->group->lock);
}

static void on_rebalance(rd_kafka_t* consumer, rd_kafka_resp_err_t code,
                         rd_kafka_topic_partition_list_t* parts, void* opaque) {
  bool assigned = code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
  rd_kafka_assign(consumer, assigned ? parts : NULL);
  hold(opaque, assigned ? parts->cnt : 0);
}

static void on_victim_rebalance(rd_kafka_t* consumer, rd_kafka_resp_err_t code,
                                rd_kafka_topic_partition_list_t* parts, void* opaque) {
  (void)opaque;
  bool assigned = code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
  rd_kafka_assign(consumer, assigned ? parts : NULL);
  if (assigned) printf("assigned %d\n", parts->cnt);
  fflush(stdout);
}

static void* be_member(void* argument) {
  member_t* member = argument;
  group_t* group = member->group;
  rd_kafka_t* consumer = group_consumer(group->group, NULL, member, on_rebalance);
  subscribe(consumer, group->topic);
  while (!group->stop && !*group->error) {
    rd_kafka_message_t* message = rd_kafka_consumer_poll(consumer, 100);
    if (!message) continue;
    rd_kafka_resp_err_t code = message->err ? message->err : rd_kafka_commit_message(consumer, message, 0);
    pthread_mutex_lock(&group->lock);
    if (code)
      snprintf(group->error, sizeof group->error, "member %d: %s", member->index, rd_kafka_err2str(code));
    else
      group->seen[atoi(message->payload)]++;
    pthread_mutex_unlock(&group->lock);
    rd_kafka_message_destroy(message);
  }
  close_consumer(consumer);
  return NULL;
}

static void be_victim(const char* topic, const char* group) {
  rd_kafka_t* consumer = group_consumer(group, NULL, NULL, on_victim_rebalance);
  subscribe(consumer, topic);
  for (int count = 0;;) {
    rd_kafka_message_t* message = rd_kafka_consumer_poll(consumer, 100);
    if (!message) continue;
    if (count++ == victim_records) {
      printf("dying\n");
      fflush(stdout);
      kill(getpid(), SIGKILL);
    }
    if (message->err || rd_kafka_commit_message(consumer, message, 0)) exit(1);
    printf("seen %d\n", atoi(message->payload));
    fflush(stdout);
  }
}

static void* listen_to_victim(void* argument) {
  member_t* victim = ((void**)argument)[0];
  FILE* output = ((void**)argument)[1];
  char line[100];
  while (fgets(line, sizeof line, output)) {
    int number = 0;
    if (sscanf(line, "assigned %d", &number) == 1) hold(victim, number);
    pthread_mutex_lock(&victim->group->lock);
    if (sscanf(line, "seen %d", &number) == 1) victim->group->seen[number]++;
    if (!strncmp(line, "dying", 5)) victim->group->dying = true;
    pthread_mutex_unlock(&victim->group->lock);
  }
  return NULL;
}

static bool balanced(group_t* group, int members) {
  pthread_mutex_lock(&group->lock);
  int sum = 0, holding = 0;
  for (int i = 0; i < 5; i++) {
    sum += group->held[i];
    holding += group->held[i] > 0;
  }
  pthread_mutex_unlock(&group->lock);
  return sum == group_partitions && holding == members;
}

static bool complete(group_t* group, int members) {
  (void)members;
  int seen = 0;
  pthread_mutex_lock(&group->lock);
  for (int i = 0; i < group_records; i++) seen += group->seen[i] > 0;
  pthread_mutex_unlock(&group->lock);
  return seen == group_records;
}

static bool await_group(group_t* group, int members, bool (*holds)(group_t*, int), const char* what,
                        int seconds) {
  for (int64_t end = now_ms() + seconds * 1000; !holds(group, members); sleep_ms(20)) {
    EXPECT(!*group->error, "%s", group->error);
    EXPECT(now_ms() < end, "after %d s still not: %s", seconds, what);
  }
  return true;
}

static bool group_of(const void* argument) {
  int members = *(const int*)argument;
  char what[20];
  snprintf(what, sizeof what, "group-%d", members);
  group_t* group = calloc(1, sizeof *group);
  pthread_mutex_init(&group->lock, NULL);
  name_of(group->group, what);
  if (!create(group->topic, what, group_partitions, NULL, NULL)) return false;

  member_t state[5] = {0};
  pthread_t threads[4], listener;
  FILE* victim = NULL;
  void* listening[2] = {&state[4], NULL};
  for (int i = 0; i < 5; i++) state[i] = (member_t){.group = group, .index = i};
  if (members > 1) {
    char command[1000];
    snprintf(command, sizeof command, "exec '%s' --bootstrap '%s' --run-id '%s' --victim '%s' '%s'", self,
             bootstrap, run_id, group->topic, group->group);
    victim = popen(command, "r");
    listening[1] = victim;
    pthread_create(&listener, NULL, listen_to_victim, listening);
  }
  int survivors = members > 1 ? members - 1 : 1;
  for (int i = 0; i < survivors; i++) pthread_create(&threads[i], NULL, be_member, &state[i]);

  bool good = await_group(group, members, balanced, "every member holds partitions", 20);
  if (good) {
    char texts[group_records][8];
    sent_t* sent = numbers(texts, 0, group_records);
    for (int i = 0; i < group_records; i++) sent[i].partition = i % group_partitions;
    good = !send_all(group->topic, sent, group_records, NULL) &&
           await_group(group, members, complete, "all records seen", 40);
    free(sent);
  }
  group->stop = true;
  for (int i = 0; i < survivors; i++) pthread_join(threads[i], NULL);
  if (victim) {
    if (good) pthread_join(listener, NULL);
    if (good) pclose(victim);
  }
  if (!good) return false;
  EXPECT(members == 1 || group->dying, "the victim did not die by itself");
  for (int i = 0; i < group_records; i++)
    EXPECT(group->seen[i] == 1, "record %d seen %d times", i, group->seen[i]);

  rd_kafka_t* consumer = group_consumer(group->group, NULL, NULL, NULL);
  rd_kafka_topic_partition_list_t* parts = rd_kafka_topic_partition_list_new(group_partitions);
  for (int i = 0; i < group_partitions; i++) rd_kafka_topic_partition_list_add(parts, group->topic, i);
  rd_kafka_resp_err_t code = rd_kafka_committed(consumer, parts, 10000);
  for (int i = 0; i < group_partitions; i++) {
    EXPECT(!code && parts->elems[i].offset == group_records / group_partitions,
           "committed offset of partition %d: %lld", i, (long long)parts->elems[i].offset);
  }
  rd_kafka_topic_partition_list_destroy(parts);
  close_consumer(consumer);
  snprintf(detail, sizeof detail, "%d records%s", group_records,
           members > 1 ? ", 10 by the member that was killed" : "");
  return true;
}

static int count_of(rd_kafka_t* consumer, int* first) {
  rd_kafka_topic_partition_list_t* parts;
  if (rd_kafka_assignment(consumer, &parts)) return 0;
  int count = parts->cnt;
  if (first) *first = count ? parts->elems[0].partition : -1;
  rd_kafka_topic_partition_list_destroy(parts);
  return count;
}

static void poll_both(rd_kafka_t* a, rd_kafka_t* b) {
  rd_kafka_t* both[2] = {a, b};
  for (int i = 0; i < 2; i++) {
    rd_kafka_message_t* message = rd_kafka_consumer_poll(both[i], 50);
    if (message) rd_kafka_message_destroy(message);
  }
}

static bool static_member(const void* unused) {
  (void)unused;
  char topic[name_size], group[name_size];
  group_t state = {.lock = PTHREAD_MUTEX_INITIALIZER};
  member_t members[2] = {{.group = &state, .index = 0}, {.group = &state, .index = 1}};
  name_of(group, "static");
  if (!create(topic, "static", 4, NULL, NULL)) return false;
  rd_kafka_t *a = group_consumer(group, "a", &members[0], on_rebalance),
             *b = group_consumer(group, "b", &members[1], on_rebalance);
  subscribe(a, topic);
  subscribe(b, topic);
  int64_t end = now_ms() + 20000;
  while (count_of(a, NULL) != 2 || count_of(b, NULL) != 2) {
    poll_both(a, b);
    EXPECT(now_ms() < end, "no balance after 20 s");
  }
  int before = members[0].rebalances, first, first_after;
  count_of(b, &first);
  close_consumer(b);
  b = group_consumer(group, "b", &members[1], on_rebalance);
  subscribe(b, topic);
  end = now_ms() + 10000;
  while (count_of(b, &first_after) == 0) {
    poll_both(a, b);
    EXPECT(now_ms() < end, "the restarted member has no partitions after 10 s");
  }
  for (end = now_ms() + 1500; now_ms() < end;) poll_both(a, b);
  EXPECT(first_after == first && count_of(b, NULL) == 2, "the restarted member has other partitions");
  EXPECT(members[0].rebalances == before, "the other member was disturbed");
  close_consumer(a);
  close_consumer(b);
  return true;
}

/* A member that has committed the first count of forty records; it is still there. */
static rd_kafka_t* commit_some(const char* topic, const char* group, int count) {
  rd_kafka_t* consumer = group_consumer(group, NULL, NULL, NULL);
  rd_kafka_message_t* got[40];
  subscribe(consumer, topic);
  if (!poll_messages(consumer, got, count)) return NULL;
  rd_kafka_resp_err_t code = rd_kafka_commit_message(consumer, got[count - 1], 0);
  free_messages(got, count);
  if (code) fail("commit: %s", rd_kafka_err2str(code));
  return code ? NULL : consumer;
}

static bool commit_resume(const void* unused) {
  (void)unused;
  char topic[name_size];
  rd_kafka_message_t* got[25];
  if (!numbered_topic(topic, "resume")) return false;
  rd_kafka_t* first = commit_some(topic, topic, 15);
  if (!first) return false;
  close_consumer(first);
  rd_kafka_t* second = group_consumer(topic, NULL, NULL, NULL);
  subscribe(second, topic);
  if (!poll_messages(second, got, 25)) return false;
  for (int i = 0; i < 25; i++) EXPECT(got[i]->offset == 15 + i, "offset %lld", (long long)got[i]->offset);
  free_messages(got, 25);
  close_consumer(second);
  return true;
}

/* The value of a topic's configuration key; detail tells why there is none. */
static bool config_of(const char* topic, const char* key, char* value) {
  rd_kafka_ConfigResource_t* resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
  rd_kafka_queue_t* queue = rd_kafka_queue_new(admin);
  rd_kafka_DescribeConfigs(admin, &resource, 1, NULL, queue);
  rd_kafka_ConfigResource_destroy(resource);
  rd_kafka_event_t* event = answer(queue);
  if (!event) return false;
  size_t count, entries;
  const rd_kafka_ConfigResource_t** found =
      rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &count);
  EXPECT(!rd_kafka_ConfigResource_error(found[0]), "%s", rd_kafka_ConfigResource_error_string(found[0]));
  const rd_kafka_ConfigEntry_t** all = rd_kafka_ConfigResource_configs(found[0], &entries);
  bool good = false;
  for (size_t i = 0; i < entries; i++) {
    if (strcmp(rd_kafka_ConfigEntry_name(all[i]), key)) continue;
    snprintf(value, name_size, "%s", rd_kafka_ConfigEntry_value(all[i]));
    good = true;
  }
  rd_kafka_event_destroy(event);
  EXPECT(good, "%s is not described", key);
  return true;
}

static bool describe_configs(const void* unused) {
  (void)unused;
  char topic[name_size], value[name_size];
  if (!create(topic, "configs", 1, "retention.ms", "1234567") || !config_of(topic, "retention.ms", value))
    return false;
  EXPECT(!strcmp(value, "1234567"), "retention.ms is %s", value);
  if (!config_of(topic, "cleanup.policy", value)) return false;
  EXPECT(!strcmp(value, "delete"), "cleanup.policy is %s", value);
  return true;
}

static bool alter_configs(const void* unused) {
  (void)unused;
  char topic[name_size], value[name_size] = "";
  if (!create(topic, "alter", 1, "retention.ms", "1234567")) return false;
  rd_kafka_ConfigResource_t* resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
  rd_kafka_ConfigResource_set_config(resource, "segment.bytes", "2097152");
  rd_kafka_queue_t* queue = rd_kafka_queue_new(admin);
  rd_kafka_AlterConfigs(admin, &resource, 1, NULL, queue);
  rd_kafka_ConfigResource_destroy(resource);
  rd_kafka_event_t* event = answer(queue);
  if (!event) return false;
  size_t count;
  const rd_kafka_ConfigResource_t** found =
      rd_kafka_AlterConfigs_result_resources(rd_kafka_event_AlterConfigs_result(event), &count);
  EXPECT(!rd_kafka_ConfigResource_error(found[0]), "%s", rd_kafka_ConfigResource_error_string(found[0]));
  rd_kafka_event_destroy(event);
  for (int64_t end = now_ms() + 10000; strcmp(value, "2097152"); sleep_ms(20)) {
    EXPECT(now_ms() < end, "segment.bytes is still %s", value);
    if (!config_of(topic, "segment.bytes", value)) return false;
  }
  if (!config_of(topic, "retention.ms", value)) return false;
  EXPECT(strcmp(value, "1234567"), "retention.ms was not replaced by its default");
  snprintf(detail, sizeof detail,
           "note: by AlterConfigs, which replaces all values; librdkafka 2.0 has no incremental change");
  return true;
}

static bool list_groups(const void* unused) {
  (void)unused;
  char topic[name_size];
  if (!numbered_topic(topic, "list-groups")) return false;
  rd_kafka_t* consumer = commit_some(topic, topic, 10);
  if (!consumer) return false;
  rd_kafka_queue_t* queue = rd_kafka_queue_new(admin);
  rd_kafka_ListConsumerGroups(admin, NULL, queue);
  rd_kafka_event_t* event = answer(queue);
  if (!event) return false;
  size_t count;
  bool found = false;
  const rd_kafka_ConsumerGroupListing_t** groups =
      rd_kafka_ListConsumerGroups_result_valid(rd_kafka_event_ListConsumerGroups_result(event), &count);
  for (size_t i = 0; i < count; i++)
    found |= !strcmp(rd_kafka_ConsumerGroupListing_group_id(groups[i]), topic);
  rd_kafka_event_destroy(event);
  close_consumer(consumer);
  EXPECT(found, "the group is not listed");
  return true;
}

static bool describe(const char* group, rd_kafka_consumer_group_state_t* state, size_t* members,
                     char* topic) {
  rd_kafka_queue_t* queue = rd_kafka_queue_new(admin);
  rd_kafka_DescribeConsumerGroups(admin, &group, 1, NULL, queue);
  rd_kafka_event_t* event = answer(queue);
  if (!event) return false;
  size_t count;
  const rd_kafka_ConsumerGroupDescription_t** groups = rd_kafka_DescribeConsumerGroups_result_groups(
      rd_kafka_event_DescribeConsumerGroups_result(event), &count);
  EXPECT(!rd_kafka_ConsumerGroupDescription_error(groups[0]), "%s",
         rd_kafka_error_string(rd_kafka_ConsumerGroupDescription_error(groups[0])));
  *state = rd_kafka_ConsumerGroupDescription_state(groups[0]);
  *members = rd_kafka_ConsumerGroupDescription_member_count(groups[0]);
  *topic = 0;
  if (*members) {
    const rd_kafka_MemberAssignment_t* assignment =
        rd_kafka_MemberDescription_assignment(rd_kafka_ConsumerGroupDescription_member(groups[0], 0));
    const rd_kafka_topic_partition_list_t* parts = rd_kafka_MemberAssignment_partitions(assignment);
    if (parts->cnt) snprintf(topic, name_size, "%s", parts->elems[0].topic);
  }
  rd_kafka_event_destroy(event);
  return true;
}

static bool describe_group(const void* unused) {
  (void)unused;
  char topic[name_size], assigned[name_size];
  rd_kafka_consumer_group_state_t state;
  size_t members;
  if (!numbered_topic(topic, "describe-group")) return false;
  rd_kafka_t* consumer = commit_some(topic, topic, 10);
  if (!consumer || !describe(topic, &state, &members, assigned)) return false;
  EXPECT(state == RD_KAFKA_CONSUMER_GROUP_STATE_STABLE && members == 1 && !strcmp(assigned, topic),
         "state %s, %zu members, assigned %s", rd_kafka_consumer_group_state_name(state), members, assigned);
  close_consumer(consumer);
  for (int64_t end = now_ms() + 10000; state != RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY; sleep_ms(20)) {
    EXPECT(now_ms() < end, "the group is not empty after 10 s");
    if (!describe(topic, &state, &members, assigned)) return false;
  }
  return true;
}

static bool list_offsets(const void* unused) {
  (void)unused;
  char topic[name_size];
  int64_t low;
  if (!numbered_topic(topic, "list-offsets")) return false;
  rd_kafka_t* consumer = commit_some(topic, topic, 10);
  if (!consumer) return false;
  close_consumer(consumer);
  EXPECT(end_offset(topic, &low) == 40 && low == 0, "earliest or latest offset is wrong");
  rd_kafka_ListConsumerGroupOffsets_t* request = rd_kafka_ListConsumerGroupOffsets_new(topic, NULL);
  rd_kafka_queue_t* queue = rd_kafka_queue_new(admin);
  rd_kafka_ListConsumerGroupOffsets(admin, &request, 1, NULL, queue);
  rd_kafka_ListConsumerGroupOffsets_destroy(request);
  rd_kafka_event_t* event = answer(queue);
  if (!event) return false;
  size_t count;
  const rd_kafka_group_result_t** groups = rd_kafka_ListConsumerGroupOffsets_result_groups(
      rd_kafka_event_ListConsumerGroupOffsets_result(event), &count);
  const rd_kafka_topic_partition_list_t* parts = rd_kafka_group_result_partitions(groups[0]);
  EXPECT(parts && parts->cnt == 1 && parts->elems[0].offset == 10, "the committed offset is not 10");
  rd_kafka_event_destroy(event);
  return true;
}

static bool delete_records(const void* unused) {
  (void)unused;
  char topic[name_size];
  int64_t low;
  if (!numbered_topic(topic, "delete-records")) return false;
  rd_kafka_topic_partition_list_t* below = rd_kafka_topic_partition_list_new(1);
  rd_kafka_topic_partition_list_add(below, topic, 0)->offset = 25;
  rd_kafka_DeleteRecords_t* request = rd_kafka_DeleteRecords_new(below);
  rd_kafka_topic_partition_list_destroy(below);
  rd_kafka_queue_t* queue = rd_kafka_queue_new(admin);
  rd_kafka_DeleteRecords(admin, &request, 1, NULL, queue);
  rd_kafka_DeleteRecords_destroy(request);
  rd_kafka_event_t* event = answer(queue);
  if (!event) return false;
  const rd_kafka_topic_partition_list_t* parts =
      rd_kafka_DeleteRecords_result_offsets(rd_kafka_event_DeleteRecords_result(event));
  EXPECT(!parts->elems[0].err && parts->elems[0].offset == 25, "low watermark %lld: %s",
         (long long)parts->elems[0].offset, rd_kafka_err2name(parts->elems[0].err));
  rd_kafka_event_destroy(event);
  EXPECT(end_offset(topic, &low) == 40 && low == 25, "the earliest offset is %lld", (long long)low);
  return numbers_follow(topic, RD_KAFKA_OFFSET_BEGINNING, 25);
}

static bool delete_topic(const void* unused) {
  (void)unused;
  char topic[name_size];
  return create(topic, "delete", 1, NULL, NULL) && !delete_error(topic) && await_partitions(topic, 0);
}

static bool error_too_large(const void* unused) {
  (void)unused;
  char topic[name_size], text[sizeof detail];
  static char big[100000];
  sent_t sent = {.value = big, .size = sizeof big};
  if (!create(topic, "large", 1, "max.message.bytes", "20000")) return false;
  EXPECT(send_all(topic, &sent, 1, NULL) == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, "not refused as too large");
  snprintf(text, sizeof text, "%s", detail);
  sent.size = 1000;
  if (send_all(topic, &sent, 1, NULL)) return false;
  snprintf(detail, sizeof detail, "%s", text);
  return true;
}

static bool error_unknown_topic(const void* unused) {
  (void)unused;
  char topic[name_size];
  name_of(topic, "nowhere");
  return delete_error(topic) == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
}

static bool error_bad_topic_name(const void* unused) {
  (void)unused;
  char topic[name_size];
  name_of(topic, "bad/name!");
  return create_error(topic, 1, NULL, NULL) == RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION;
}

typedef struct {
  const char* check;
  body_fn body;
  const void* argument;
} check_t;

static void* run_one(void* argument) {
  const check_t* check = argument;
  run(check->check, check->body, check->argument);
  return NULL;
}

int main(int count, char** arguments) {
  self = arguments[0];
  for (int i = 1; i + 1 < count; i += 2) {
    if (!strcmp(arguments[i], "--bootstrap"))
      bootstrap = arguments[i + 1];
    else if (!strcmp(arguments[i], "--run-id"))
      run_id = arguments[i + 1];
    else if (!strcmp(arguments[i], "--only"))
      only = arguments[i + 1];
    else if (!strcmp(arguments[i], "--victim") && i + 2 < count)
      be_victim(arguments[i + 1], arguments[i + 2]);
  }
  if (!bootstrap || !run_id) return 2;
  admin = client_of(RD_KAFKA_PRODUCER, conf_of(NULL));
  static const check_t checks[] = {{"create_topic", create_topic, NULL},
                                   {"produce_none", produce, "none"},
                                   {"produce_gzip", produce, "gzip"},
                                   {"produce_snappy", produce, "snappy"},
                                   {"produce_lz4", produce, "lz4"},
                                   {"produce_zstd", produce, "zstd"},
                                   {"record_fields", record_fields, NULL},
                                   {"null_value", null_value, NULL},
                                   {"idempotent", idempotent, "1"},
                                   {"idempotent_in_flight", idempotent, "5"},
                                   {"consume_start", consume_start, NULL},
                                   {"consume_offset", consume_offset, NULL},
                                   {"consume_timestamp", consume_timestamp, NULL},
                                   {"commit_resume", commit_resume, NULL},
                                   {"describe_configs", describe_configs, NULL},
                                   {"alter_configs", alter_configs, NULL},
                                   {"list_groups", list_groups, NULL},
                                   {"describe_group", describe_group, NULL},
                                   {"list_offsets", list_offsets, NULL},
                                   {"delete_records", delete_records, NULL},
                                   {"delete_topic", delete_topic, NULL},
                                   {"error_too_large", error_too_large, NULL},
                                   {"error_unknown_topic", error_unknown_topic, NULL},
                                   {"error_bad_topic_name", error_bad_topic_name, NULL}};
  for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
    run(checks[i].check, checks[i].body, checks[i].argument);
  /* Checks that mostly wait run side by side. */
  static const int members[] = {1, 2, 3, 4};
  static check_t together[] = {{"group_1", group_of, &members[0]},
                               {"group_2", group_of, &members[1]},
                               {"group_3", group_of, &members[2]},
                               {"group_4", group_of, &members[3]},
                               {"static_member", static_member, NULL}};
  enum { waiting = sizeof together / sizeof *together };
  pthread_t threads[waiting];
  for (int i = 0; i < waiting; i++) pthread_create(&threads[i], NULL, run_one, &together[i]);
  for (int i = 0; i < waiting; i++) pthread_join(threads[i], NULL);
  rd_kafka_destroy(admin);
  return 0;
}
